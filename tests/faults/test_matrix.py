"""Every fault, in every tier, of both providers, at every rate: an answer in time, and every cent accounted for."""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from cascade import Cascade
from cascade.errors import DeadlineError, ProviderError
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from cascade.policy.schema import PolicyFile
from cascade.result import ANSWERED, CallRecord, Result
from tests import machine
from tests.faults import matrix
from tests.faults.accounts import Ended, audit, journalled
from tests.faults.matrix import CELLS, GOOD, TIERS, WEAK
from tests.faults.process import FaultServer, Served
from tests.faults.replies import FAULTS, STREAM_FAULTS, Plan

N = 1  # runs of a cell; the benchmark makes more
LATE_S = 0.1
ALL = pytest.mark.parametrize("fault", dict.fromkeys((*FAULTS, *STREAM_FAULTS)))
BOTH = pytest.mark.parametrize("provider", matrix.PROVIDERS)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """A process that lives for this module."""
    with FaultServer() as running:
        yield running


class Played(NamedTuple):
    """The whole matrix, once and all at the same time: how its runs ended, what was served, what a journal kept."""

    ended: list[Ended]
    served: list[Served]
    logs: dict[int, list[CallRecord]]


@pytest.fixture(scope="module")
def played(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A module's worth of runs."""
    server.plan(matrix.plans(CELLS))
    path = tmp_path_factory.mktemp("journal") / "journal.db"

    async def go() -> list[Ended]:
        async with Cascade(matrix.policies(server, CELLS, path)) as cascade:
            return await matrix.run(cascade, CELLS, range(N * len(CELLS)))

    ended = asyncio.run(go())
    store = open_store(f"sqlite:///{path}")
    try:
        return Played(ended, list(server.ledger().entries), journalled(store.read(Filter())))
    finally:
        store.close()


@ALL
def test_matrix(played: Played, fault: str) -> None:
    """With two healthy tiers every run returns an answer, in time, and its costs are those that the server billed."""
    of = {i for i, cell in enumerate(CELLS) if cell.fault == fault}
    ended = [e for e in played.ended if e.number % len(CELLS) in of]
    served = [s for s in played.served if s.run % len(CELLS) in of]
    findings = audit(ended, served)
    assert not findings.wrong, "\n".join(findings.wrong[:10])
    assert findings.runs == findings.answered == N * len(of)
    assert findings.faults >= findings.runs / 3  # a third of the cells have nothing but faults
    assert findings.worst_late_s < LATE_S
    assert findings.cents_apart == 0
    assert audit(ended, served, played.logs) == findings  # the journal has the same requests at the same cost


@ALL
def test_a_broken_tier_is_no_quality_escalation(played: Played, fault: str) -> None:
    """The attempt says provider_failure, the tiers around it are judged as ever, and the last answer is the right one."""
    for ended in played.ended:
        cell = CELLS[ended.number % len(CELLS)]
        if (cell.fault, cell.rate) != (fault, 1.0):
            continue
        reasons = dict.fromkeys(TIERS[: TIERS.index(cell.broken)], "vetoed") | {cell.broken: "provider_failure"}
        result = ended.outcome
        assert isinstance(result, Result)
        assert {a.tier: a.reason for a in result.attempts if a.reason not in ANSWERED} == reasons
        last = cell.broken == "premium"
        assert result.text == (WEAK if last else GOOD)
        # No judge of these tiers gives a score.
        assert result.reason == ("provider_failure" if last else "last_tier" if result.tier == TIERS[-1] else "unjudged")


def policy_file(
    server: FaultServer, plans: dict[str, Plan], provider: str, model: dict[str, Any] | None = None, **policies: Any
) -> PolicyFile:
    """Models for ``plans``, with the settings ``model``, and the policies ``made``."""
    server.plan(plans)
    models = {name: matrix.spec(server, name, provider, plan, **(model or {})) for name, plan in plans.items()}
    return PolicyFile.model_validate({"models": models, "policies": policies})


def runs(file: PolicyFile, deadline_s: float, n: int = 1) -> list[Ended]:
    """``n`` runs of every policy, all at once, through a Cascade of their own; numbered in the order of the policies."""

    async def go() -> list[Ended]:
        await matrix.settle()
        async with Cascade(file) as cascade:
            names = [name for name in file.policies for _ in range(n)]
            return await asyncio.gather(*(matrix.one(cascade, name, i, deadline_s) for i, name in enumerate(names)))

    return asyncio.run(go())


def in_time(ended: list[Ended]) -> list[Ended]:
    """The runs, which must have ended within 0.1 s of their deadline, in time of a machine as fast as the reference."""
    late = max(one.late_s for one in ended)
    assert late < LATE_S or late < LATE_S * machine.slowness(), late
    return ended


@BOTH
def test_all_tiers_down(server: FaultServer, provider: str) -> None:
    """One error, of one kind, which names every tier and what was wrong with it; and the accounts are right."""
    plans = {fault: Plan(faults=(fault,)) for fault in FAULTS}
    ladders = {fault: {"tiers": matrix.tiers((tier, fault) for tier in TIERS)} for fault in FAULTS}
    ended = runs(policy_file(server, plans, provider, **ladders), 30.0)
    for fault, one in zip(FAULTS, ended, strict=True):
        assert type(one.outcome) is ProviderError, (fault, one.outcome)
        assert all(f"{tier} ({fault}): {fault}: " in str(one.outcome) for tier in TIERS), str(one.outcome)
        assert [a.reason for a in one.outcome.attempts] == ["provider_failure"] * 3
    findings = audit(ended, server.ledger().entries)
    assert findings.wrong == [f"{fault}: {one.problem()}" for fault, one in zip(FAULTS, ended, strict=True)]
    assert findings.cents_apart == 0


@BOTH
@pytest.mark.parametrize("fault", ["hang", "drip", "429_retry_after"])
def test_the_deadline_ends_a_run(server: FaultServer, provider: str, fault: str) -> None:
    """Slow tiers whose timeouts are longer than the deadline: it holds, for fifty runs at once."""
    ladder = {"tiers": matrix.tiers((tier, "slow") for tier in TIERS)}
    file = policy_file(server, {"slow": Plan(faults=(fault,))}, provider, {"timeout_s": 30.0}, ladder=ladder)
    for ended in in_time(runs(file, 0.5, 50)):
        assert isinstance(ended.outcome, DeadlineError | ProviderError)
        assert isinstance(ended.outcome, DeadlineError) or fault == "429_retry_after"


@BOTH
def test_the_deadline_leaves_the_best_answer(server: FaultServer, provider: str) -> None:
    """A rejected answer is better than none when the next tier hangs; what the cancelled request costs is unknown."""
    ladder = {"tiers": matrix.tiers([("cheap", "weak"), ("premium", "hangs")])}
    plans = {"weak": Plan(WEAK), "hangs": Plan(faults=("hang",))}
    file = policy_file(server, plans, provider, {"timeout_s": 30.0}, ladder=ladder)
    (ended,) = in_time(runs(file, 0.5))
    result = ended.outcome
    assert isinstance(result, Result)
    assert (result.text, result.accepted, result.reason, result.cost_usd) == (WEAK, False, "deadline", None)


@BOTH
@pytest.mark.parametrize("rule", ["escalate", "ignore"])
def test_a_judge_that_is_down(server: FaultServer, provider: str, rule: str) -> None:
    """The verifier's own model fails: a judge_failure, never a low score, and its requests are in the accounts."""
    plans = {"good": Plan(), **{fault: Plan(faults=(fault,)) for fault in FAULTS}}
    (premium,) = matrix.tiers([("premium", "good")])
    ladders = {
        fault: {"tiers": [{**premium, "name": "cheap", "judges": [verifier(fault)]}, premium], "on_judge_error": rule}
        for fault in FAULTS
    }
    ended = runs(policy_file(server, plans, provider, **ladders), 30.0)
    for fault, one in zip(FAULTS, ended, strict=True):
        assert isinstance(one.outcome, Result), fault
        reasons = ["judge_failure", "last_tier"] if rule == "escalate" else ["unjudged"]
        assert [a.reason for a in one.outcome.attempts] == reasons, fault
        assert all(v.score is None for v in one.outcome.attempts[0].verdicts)
    findings = audit(ended, server.ledger().entries)
    assert not findings.wrong, findings.wrong
    assert findings.answered == len(FAULTS)
    assert findings.cents_apart == 0


def verifier(model: str) -> dict[str, str]:
    """The judge that asks ``model``."""
    return {"use": "verifier", "model": model}


def test_a_breaker_spares_a_dead_model(server: FaultServer) -> None:
    """With the breaker on, a dead model is called a few times and then skipped; every run is still answered."""
    plans = {"dead": Plan(faults=("500",)), "good": Plan()}
    ladder = {"tiers": matrix.tiers([("cheap", "dead"), ("premium", "good")])}
    file = policy_file(server, plans, "openai", {"breaker": {"min_requests": 10, "cooldown_s": 60.0}}, ladder=ladder)

    async def go() -> list[Ended]:
        async with Cascade(file) as cascade:
            return [await matrix.one(cascade, "ladder", i, 10.0) for i in range(50)]

    ended = asyncio.run(go())
    findings = audit(ended, server.ledger().entries)
    assert not findings.wrong, findings.wrong[:3]
    assert findings.answered == 50
    assert server.ledger().requests == {"dead": 10, "good": 50}
    assert "circuit breaker is open" in str(ended[-1].outcome.attempts[0].error)


def test_a_fallback_answers_before_the_next_tier(server: FaultServer) -> None:
    """A tier whose model is down is answered by its fallback at another provider, whatever the fault."""
    plans = {"good": Plan(), **{fault: Plan(faults=(fault,)) for fault in FAULTS}}
    ladders = {
        fault: {"tiers": [{**tier, "fallbacks": ["good"]} for tier in matrix.tiers([("only", fault)])]} for fault in FAULTS
    }
    ended = runs(policy_file(server, plans, "anthropic", **ladders), 30.0)
    findings = audit(ended, server.ledger().entries)
    assert not findings.wrong, findings.wrong[:3]
    assert findings.answered == len(FAULTS)
    assert all(one.outcome.attempts[0].reason in ANSWERED for one in ended)
