"""A tier that by the prompt alone is too unlikely to be right is not asked; the journal records why and takes it again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, ScriptedModel
from cascade.cli import main
from cascade.commands.explain import explain
from cascade.engine.decide import decide_before
from cascade.journal.read.verify import StoredPolicy, verify
from cascade.policy.predictor import Predictor, from_json
from cascade.policy.thresholds import Thresholds
from cascade.result import Action
from judges import Prompt, Verdict
from judges.prompt import features
from judges.registry import judge, unregister
from tests.cascade.journal.cascades import policies, records

EASY, HARD, OTHER = "Which city is the capital of France?", "Which prime number follows 89?", "Пожалуйста, переведи"


def predictor() -> dict[str, Any]:
    """Sure of one prompt, doubtful of another."""
    weights = dict.fromkeys(features(Prompt.of(HARD)).ngrams, -20)
    weights |= dict.fromkeys(features(Prompt.of(EASY)).ngrams, 20)
    return Predictor(
        intercept=0.0, weights=weights, scale=0.1, lengths=(5, 80), scripts=("latin",), known_share=0.5
    ).to_json()  # fmt: skip


def tier(**more: Any) -> dict[str, Any]:
    """The first tier; it accepts whatever it answers."""
    return {"model": "small", "accept_at": 0.0, "predictor": predictor(), "skip_below": 0.5, **more}


def make_cascade(first: dict[str, Any], **options: Any) -> tuple[Cascade, ScriptedModel, ScriptedModel]:
    """Two tiers of scripted models."""
    small, large = ScriptedModel("small", ["cheap"] * 9), ScriptedModel("large", ["dear"] * 9)
    policy = Policy.model_validate({"tiers": [first, {"model": "large", "accept_at": 0.0}]})
    return Cascade(policy, models={"small": small, "large": large}, **options), small, large


def test_the_prompt_decides_whether_a_tier_is_asked() -> None:
    """A hard prompt, and one unlike the recording, goes straight to the next tier at no cost; an easy one is asked."""
    cascade, small, _ = make_cascade(tier())
    hard, easy, other = (cascade.run(text) for text in (HARD, EASY, OTHER))
    assert [r.tier for r in (hard, easy, other)] == ["large", "small", "large"]
    assert len(small.calls) == 1
    skipped = hard.attempts[0]
    assert (skipped.reason, skipped.answer, skipped.calls, skipped.cost_usd) == ("skipped", None, 0, 0.0)
    assert skipped.confidence < 0.5
    assert [d.action for d in skipped.decisions] == [Action.SKIP]
    assert [d.action for d in easy.attempts[0].decisions] == [Action.ASK, Action.ACCEPT]
    assert [d.action for d in other.attempts[0].decisions] == [Action.SKIP]
    assert other.attempts[0].decisions[0].compared == {"prompt:right": None}


def test_the_prompt_is_evidence_of_the_confidence() -> None:
    """A mapping that reads the prompt gives each prompt its own confidence; it is no judge's word about the answer."""
    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.1], [1.0, 0.9]], "missing": 0.4}
    cascade, _, _ = make_cascade(tier(skip_below=None, confidence=[mapping]))
    hard, easy, other = (cascade.run(text) for text in (HARD, EASY, OTHER))
    assert hard.confidence < 0.5 < easy.confidence
    assert other.confidence == 0.4
    assert not easy.judged
    assert easy.attempts[0].decisions[0].compared == {"prompt:right": pytest.approx((easy.confidence - 0.1) / 0.8)}


def test_verify_takes_skips_again(tmp_path: Path) -> None:
    """Records with skips verify; a changed probability does not."""
    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.1], [1.0, 0.9]], "missing": 0.4}
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    cascade, _, _ = make_cascade(tier(confidence=[mapping]), journal=url)

    async def runs() -> None:
        async with cascade:
            for text in (HARD, EASY, OTHER):
                await cascade.arun(text)

    asyncio.run(runs())
    ((hash, text),) = policies(url).items()
    stored = StoredPolicy.of(hash, text)
    every = records(url)
    assert [verify(record, stored) for record in every] == [[], [], []]
    skipped = next(r for r in every if r.attempts[0]["reason"] == "skipped")
    decision = skipped.attempts[0]["decisions"][0]
    assert decision["confidence"] < 0.5
    assert decision["action"] == "skip"
    attempts = [{**skipped.attempts[0], "decisions": [{**decision, "confidence": 0.9}]}, *skipped.attempts[1:]]
    assert any("the policy decides 'ask'" in d for d in verify(skipped._replace(attempts=attempts), stored))


@pytest.mark.parametrize(
    ("skip_below", "probability", "action"),
    [
        (None, 0.0, "ask"),
        (0.5, None, "skip"),
        (0.0, None, "ask"),
        (0.5, 0.5, "ask"),
        (0.5, 0.49, "skip"),
        (0.0, 0.0, "ask"),
        (1.0, 0.99, "skip"),
    ],
)
def test_decide_before(skip_below: float | None, probability: float | None, action: str) -> None:
    """Below the threshold only; never without a threshold or a probability."""
    assert decide_before(Thresholds(0.5, skip_below=skip_below), probability).value == action


def test_a_gate_judges_whatever_the_prompt_says() -> None:
    """The answer exists already, so that there is nothing to skip."""
    cascade, _, _ = make_cascade(tier())
    assert cascade.gate(HARD, Answer("x"), tier="small").tier == "small"


def test_explain_says_which_tier_the_prompt_rules_out() -> None:
    """It asks nobody, and says what a run would do."""
    policy = Policy.model_validate({"tiers": [tier(), {"model": "large", "accept_at": 0.0}]})
    hard, easy, other = (list(explain(policy, Prompt.of(text), {})) for text in (HARD, EASY, OTHER))
    assert "small: not asked (right with" in hard[2]
    assert hard[3].startswith("large: asked first")
    assert "by the prompt; accepts from 0" in easy[2]
    assert easy[3].startswith("large: asked if")
    assert "prompt unlike the recording" in other[2]


def test_check_says_what_the_prompt_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiers that the prompt may rule out, and those whose confidence reads it; nothing for other tiers."""
    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.1], [1.0, 0.9]], "missing": 0.4}
    models = {name: {"provider": "scripted", "answers": ["x"]} for name in ("small", "large")}
    tiers = [tier(confidence=[mapping]), {"model": "large", "accept_at": 0.0}]
    path = tmp_path / "policies.json"
    path.write_text(json.dumps({"models": models, "policies": {"default": {"tiers": tiers}}}))
    assert main(["check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not asked where the prompt gives it less than 0.5; the prompt is evidence of its confidence") == 1


@pytest.mark.parametrize(("deadline_s", "reason"), [(0.05, "deadline"), (30.0, "judge_failure")])
def test_an_attempt_cut_short_has_the_confidence_before_any_judge(deadline_s: float, reason: str) -> None:
    """Where no judge gave a verdict, what the prompt says of the answer is still its confidence."""

    @judge("slow-or-broken")
    async def slow_or_broken(prompt: Prompt, answer: Answer) -> Verdict:
        await asyncio.sleep(30.0 if reason == "deadline" else 0.0)
        raise RuntimeError("no verdict")

    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.1], [1.0, 0.9]], "missing": 0.4}
    first = tier(skip_below=None, confidence=[mapping] * 2, judges=["slow-or-broken"])
    policy = Policy.model_validate({"tiers": [first], "on_judge_error": "escalate", "deadline_s": deadline_s})
    try:
        result = Cascade(policy, models={"small": ScriptedModel("small", ["cheap"])}).run(EASY)
    finally:
        unregister("slow-or-broken")
    score = from_json(predictor()).probability(features(Prompt.of(EASY)))
    assert score is not None
    assert result.attempts[0].reason == reason
    assert result.attempts[0].confidence == pytest.approx(0.1 + 0.8 * score)


def test_the_task_that_a_run_names_is_evidence() -> None:
    """By the policy's tag or rule; a task that was not recorded, and none, is unlike the recording."""
    places = {task: features(Prompt.of(EASY), task).properties[-1] for task in ("faq", "proof")}
    hashes = dict.fromkeys(features(Prompt.of(EASY)).ngrams, 0)
    of_task = Predictor(
        intercept=0.0, weights={**hashes, places["faq"]: 90, places["proof"]: -90},
        scale=0.1, lengths=(5, 80), scripts=("latin",), known_share=0.5, shape=("task",), shapes=frozenset(places.values()),
    )  # fmt: skip
    first = tier(predictor=of_task.to_json())
    cascade, small, _ = make_cascade(first)
    answered_by = [cascade.run(EASY, tags=tags).tier for tags in ({"task": "faq"}, {"task": "proof"}, {"task": "new"}, None)]
    assert answered_by == ["small", "large", "large", "large"]
    assert len(small.calls) == 1
    policy = {"tiers": [first, {"model": "large"}], "tasks": {"rules": [{"task": "faq", "pattern": "capital"}]}}
    models = {"small": ScriptedModel("small", ["cheap"]), "large": ScriptedModel("large", ["dear"])}
    by_rule = Cascade(Policy.model_validate(policy), models=models)
    assert by_rule.run(EASY).tier == "small"
    lines = list(explain(Policy.model_validate(policy), Prompt.of(EASY), {"task": "proof"}))
    assert any("small: not asked (right with" in line for line in lines)


def test_a_policy_whose_predictors_read_no_task_does_not_look_for_one() -> None:
    """Nothing is compiled for it, so that runs of other policies pay nothing."""
    cascade, _, _ = make_cascade(tier())

    async def compiled() -> Any:
        async with cascade:
            return cascade._runtime.compile("default").tasks

    assert asyncio.run(compiled()) is None
