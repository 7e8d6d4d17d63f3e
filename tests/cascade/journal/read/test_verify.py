"""Deciding a journal again."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, RunError, ScriptedModel, Usage
from cascade.journal.open_store import open_store
from cascade.journal.read.verify import StoredPolicy, verify
from cascade.journal.record import Record
from cascade.models.protocol import ModelError
from judges import Verdict, judge
from tests.cascade.journal.cascades import POOR, SURE, cascade, policies, records


def checked(url: str) -> dict[str, list[str]]:
    """What differs, by run."""
    stored = {hash: StoredPolicy.of(hash, text) for hash, text in policies(url).items()}
    return {r.run_id: d for r in records(url) if (d := verify(r, stored.get(r.policy_hash)))}


@judge("whim")
def whim(prompt: Any, answer: Answer) -> Verdict:
    """A score, no score, a veto, a failure, or another answer in its place, by the answer's text."""
    kind, _, score = answer.text.partition(" ")
    if kind == "fails":
        raise OSError("no")
    if kind == "vetoed":
        return Verdict("whim", veto=True, reason="no")
    if kind == "other":
        return Verdict("whim", float(score), answer=Answer("", model=answer.model))  # `rules` vetoes what is empty
    return Verdict("whim", None if kind == "silent" else float(score))


def ladder(rng: random.Random, calibrated: bool) -> Policy:
    """A policy of one to three tiers with thresholds at every stage, by chance."""

    def maybe(low: float, high: float) -> float | None:
        return round(rng.uniform(low, high), 2) if rng.random() < 0.5 else None

    tiers = []
    for i in range(rng.randint(1, 3)):
        judges: list[dict[str, Any]] = [
            {"use": "rules", "accept_at": maybe(0.8, 1), "reject_below": maybe(0, 0.3)},
            {"use": "whim", "accept_at": maybe(0.8, 1), "reject_below": maybe(0, 0.3)},
            {"use": "logprob"},
        ][: rng.randint(0, 3)]
        tier: dict[str, Any] = {"name": f"t{i}", "model": f"m{i}", "judges": judges, "prior": round(rng.random(), 2)}
        tier["accept_at"] = round(rng.random(), 2)
        if calibrated:
            tier["confidence"] = [_mapping(rng, i) for _ in range(len(judges) + 1)]
        tiers.append(tier)
    return Policy.model_validate(
        {
            "tiers": tiers,
            "final": rng.choice(["last", "best", "vote"]),
            "when_unsure": rng.choice(["best", "abstain", "raise"]),
            "on_judge_error": rng.choice(["escalate", "ignore"]),
            "max_calls": rng.choice([1, 2, 64]),
        }
    )


def _mapping(rng: random.Random, tier: int) -> dict[str, Any]:
    names = ["whim", "logprob", *(f"agrees:{j}" for j in range(tier))]
    features = [
        {"judge": n, "transform": "identity", "fill": 0.5, "coefficient": rng.uniform(-3, 3), "missing": rng.uniform(-1, 1)}
        for n in names
    ]
    return {"method": "logistic", "intercept": rng.uniform(-1, 1), "features": features}


def script(rng: random.Random) -> Any:
    """Answers of every kind, and faults."""

    def reply(prompt: Any, request: Any) -> Any:
        kind = rng.choice(["says", "says", "says", "silent", "vetoed", "fails", "other", "fault", "empty"])
        if kind == "fault":
            return ModelError("m: HTTP 400", model="m", status=400)
        text = "" if kind == "empty" else f"{kind} {round(rng.random(), 3)}"
        cost = rng.choice([1e-5, 3e-4, None])
        logprob = rng.choice([None, -rng.random()])
        return Answer(text, finish_reason="stop", mean_logprob=logprob, usage=Usage(10, 5), cost_usd=cost)

    return reply


@pytest.mark.parametrize("calibrated", [False, True])
async def test_every_decision_follows_from_its_verdicts(url: str, calibrated: bool) -> None:
    """Random ladders, random answers, vetoes, faults, silent judges: 60 policies, 600 runs, and gates, none differs."""
    rng = random.Random(7 + calibrated)
    ended: dict[str, int] = {}
    for _ in range(60):
        policy = ladder(rng, calibrated)
        models = {f"m{i}": ScriptedModel(f"m{i}", script(rng)) for i in range(3)}
        async with Cascade(policy, models=models, journal=url) as c:
            for i in range(10):
                try:
                    ended[(await c.arun(f"{i}")).reason] = 1
                except RunError as error:
                    ended[type(error).__name__] = 1
            tier = rng.choice(policy.tiers).name
            await c.agate("q", f"says {round(rng.random(), 3)}", tier=tier)
    assert len(records(url)) == 660
    assert {"accepted", "unsure", "vetoed", "max_calls", "UnsureError", "ProviderError"} <= ended.keys()
    assert checked(url) == {}


async def test_runs_cut_short_verify(url: str) -> None:
    """A deadline, a cancellation and a judge that raises leave records that agree with themselves."""
    async with cascade(url, POOR, SURE, delay_s=0.3, deadline_s=0.5) as c:
        await asyncio.gather(*(c.arun("x") for _ in range(3)))
        task = asyncio.create_task(c.arun("y"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with cascade(url, Answer("fails 1"), SURE, "whim", on_judge_error="raise") as c:
        with pytest.raises(OSError, match="no"):
            await c.arun("z")
    assert {r.reason for r in records(url)} == {"deadline", "cancelled", "raised"}
    assert checked(url) == {}


async def one(url: str) -> tuple[Record, StoredPolicy]:
    """A record of two tiers, and its policy."""
    async with cascade(url) as c:
        await c.arun("x")
    (record,) = records(url)
    ((hash, text),) = policies(url).items()
    return record, StoredPolicy.of(hash, text)


def _with(record: Record, number: int, **changes: Any) -> Record:
    attempts = [dict(a) for a in record.attempts]
    attempts[number].update(changes)
    return record._replace(attempts=attempts)


async def test_what_was_changed_is_found(url: str) -> None:
    """A verdict, a confidence, a decision, a reason, a cost, an accepted flag, a tier: any change is named."""
    record, stored = await one(url)
    assert verify(record, stored) == []
    cheap: Mapping[str, Any] = record.attempts[0]
    verdicts = [cheap["verdicts"][0], {**cheap["verdicts"][1], "score": 0.9}]
    decisions = [cheap["decisions"][0], {**cheap["decisions"][1], "action": "accept"}]
    for changed, named in (
        (_with(record, 0, verdicts=verdicts), "confidence"),
        (_with(record, 0, verdicts=[{**cheap["verdicts"][0], "veto": True}, cheap["verdicts"][1]]), "vetoed"),
        (_with(record, 0, decisions=decisions), "the policy decides 'escalate'"),
        (_with(record, 0, decisions=decisions[:1]), "no decision ends the attempt"),
        (_with(record, 0, reason="accepted"), "reason 'accepted'"),
        (_with(record, 0, cost_usd=1.0), "add up to"),
        (_with(record, 0, judge_cost_usd=-1.0), "judge_cost_usd"),
        (_with(record, 0, tier="other"), "no such tier"),
        (record._replace(accepted=False), "accepted: False"),
        (record._replace(reason="unsure"), "reason: 'unsure'"),
        (record._replace(confidence=0.1), "confidence: 0.1"),
        (record._replace(tier="cheap"), "tier: 'cheap'"),
        (record._replace(cost_usd=5.0), "cost_usd is 5.0"),
        (record._replace(attempts=record.attempts[:1]), "the attempts give"),
        (record._replace(attempts=record.attempts[1:]), ""),
    ):
        differences = verify(changed, stored)
        if named:
            assert any(named in f for f in differences), (named, differences)
    assert verify(record, None) == [f"its policy {record.policy_hash} is not stored"]


async def test_a_changed_policy_is_found(url: str) -> None:
    """The stored text must hash to the name it is stored under."""
    await one(url)
    ((hash, text),) = policies(url).items()
    with pytest.raises(ValueError, match="another hash"):
        StoredPolicy.of(hash, text.replace("0.7", "0.6"))


async def test_judges_need_not_be_installed(url: str) -> None:
    """Whoever verifies may lack the service's own judges: only thresholds are read."""
    await one(url)
    ((_, text),) = policies(url).items()
    data = json.loads(text)
    data["tiers"][0]["judges"][0]["use"] = "a judge of somebody else's"
    changed = json.dumps(data, sort_keys=True)
    import hashlib

    stored = StoredPolicy.of(hashlib.sha256(changed.encode()).hexdigest()[:16], changed)
    assert [t.name for t in stored.tiers] == ["cheap", "premium"]


async def test_verify_by_command(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all agrees; 1 and the run's id where a row was changed in the database."""
    from cascade.cli import main

    record, _ = await one(url)
    assert main(["journal", "verify", "--journal", url]) == 0
    assert "1 record, every decision follows" in capsys.readouterr().out
    store: Any = open_store(url)
    store.execute("UPDATE cascade_runs SET confidence = 0.123")
    store.close()
    assert main(["journal", "verify", "--journal", url]) == 1
    assert f"{record.run_id}: confidence: 0.123" in capsys.readouterr().out
    store = open_store(url)
    body, changed = '"score":', '"scare":'
    store.execute(f"UPDATE cascade_runs SET body = CAST(replace(CAST(body AS TEXT), '{body}', '{changed}') AS {_json(url)})")
    store.close()
    assert main(["journal", "verify", "--journal", url]) == 1
    assert "is not a record (KeyError)" in capsys.readouterr().out


def _json(url: str) -> str:
    return "TEXT" if url.startswith("sqlite") else "JSON"


async def test_runs_with_tools_verify(url: str) -> None:
    """The check of tool calls comes before the verdicts of the tier's judges."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    rules = [{"use": "rules", "accept_at": 0.95}, "logprob"]
    tiers = [{"name": f"t{i}", "model": f"m{i}", "accept_at": 0.1, "judges": rules} for i in range(2)]

    def calling(name: str) -> Answer:
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return Answer("", tool_calls=(call,), mean_logprob=-0.1, cost_usd=0.0)

    models = {"m0": ScriptedModel("m0", [calling("g")]), "m1": ScriptedModel("m1", [calling("f")])}
    async with Cascade(Policy.model_validate({"tiers": tiers}), models=models, journal=url) as c:
        result = await c.arun("q", tools=tools)
        assert [[v.judge for v in a.verdicts] for a in result.attempts] == [["tools"], ["tools", "rules", "logprob"]]
    assert checked(url) == {}
