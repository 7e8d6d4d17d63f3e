"""RecordedModel: recorded answers and samples come back as they are, and nothing else does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade import Cascade, Policy
from cascade.errors import PolicyError
from cascade.models.protocol import Request
from cascade.models.recorded import NotRecordedError, RecordedModel
from judges import Prompt, Usage

ANSWER: dict[str, Any] = {
    "text": "2",
    "quality": 1.0,
    "token_logprobs": [-0.5, 1e-8],
    "logprob": -0.25,
    "usage": {"input_tokens": 3, "output_tokens": 1},
    "cost_usd": 0.5,
    "latency_s": 0.1,
    "verdicts": {"verifier": 0.9},
    "verdict_cost_usd": {"verifier": 0.25},
    "finish_reason": "stop",
    "samples": [{"text": "2", "quality": 1.0}, {"text": "3", "quality": 0.0, "cost_usd": 0.125}],
}


def ask(model: RecordedModel, prompt: Prompt, **request: Any) -> Any:
    return asyncio.run(model.answer(prompt, Request(**request)))


def test_answer_has_all_fields() -> None:
    """Everything recorded of an answer arrives in the Answer."""
    model = RecordedModel("cheap", "m", {"a": ANSWER})
    (got,) = ask(model, Prompt.of("?", id="a"))
    assert (got.text, got.cost_usd, got.latency_s, got.finish_reason) == ("2", 0.5, 0.1, "stop")
    assert [t.logprob for t in got.logprobs] == [-0.5, 0.0]
    assert (got.mean_logprob, got.usage.output_tokens, got.verdicts) == (-0.25, 1, {"verifier": 0.9})
    assert got.extra == {"quality": 1.0, "verdict_cost_usd": {"verifier": 0.25}}


@pytest.mark.parametrize(("recorded", "confidence"), [({"verifier": 0.9}, 0.9), ({"verifier": None}, 0.5)])
def test_a_recorded_verdict_is_taken_and_paid(recorded: dict[str, float | None], confidence: float) -> None:
    """A recorded verdict without a score counts, too: the judge is not called again, and its cost is included."""
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.0, "judges": ["verifier"]}]})
    model = RecordedModel("m", "m", {"a": {**ANSWER, "verdicts": recorded}})
    with Cascade(policy, models={"m": model}) as service:
        result = service.run(Prompt.of("?", id="a"))
    (attempt,) = result.attempts
    assert [(v.judge, v.score) for v in attempt.verdicts] == list(recorded.items())
    assert (result.confidence, result.cost_usd, len(attempt.call_log)) == (confidence, 0.75, 1)


def test_samples_are_served_until_used_up() -> None:
    """Samples come from the offset on, fewer where they end, none after; an unknown cost stays unknown."""
    model = RecordedModel("cheap", "m", {"a": ANSWER})
    prompt = Prompt.of("?", id="a")
    assert [(s.text, s.cost_usd) for s in ask(model, prompt, sample=True, n=5)] == [("2", None), ("3", 0.125)]
    assert [s.extra["quality"] for s in ask(model, prompt, sample=True, n=5, sample_offset=1)] == [0.0]
    assert not ask(model, prompt, sample=True, sample_offset=2)
    priced = RecordedModel("cheap", "m", {"a": {**ANSWER, "sample_cost_usd": 0.0}})
    assert [s.cost_usd for s in ask(priced, prompt, sample=True, n=2)] == [0.0, 0.0]


def test_unknown_prompt_is_named_by_hash() -> None:
    """An unknown prompt is an error that does not quote it."""
    model = RecordedModel("cheap", "m", {"a": ANSWER})
    with pytest.raises(NotRecordedError, match="1 recorded answers") as caught:
        ask(model, Prompt.of("my secret"))
    assert "secret" not in str(caught.value)
    assert not caught.value.retryable
    with pytest.raises(NotRecordedError, match="'b'"):
        ask(model, Prompt.of("?", id="b"))


def test_file_by_words_and_missing_model(tmp_path: Path) -> None:
    """From a file, a prompt without id is found by its words; an unknown model names the known ones."""
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"id": "a", "system": "S", "prompt": "1+1?", "answers": {"m": ANSWER}}) + "\n")
    model = RecordedModel.from_file("cheap", "m", path)
    assert ask(model, Prompt.of("1+1?", system="S"))[0].text == "2"
    with pytest.raises(NotRecordedError):
        ask(model, Prompt.of("1+1?"))
    with pytest.raises(PolicyError, match="it has: m"):
        RecordedModel.from_file("cheap", "k", path)
    with pytest.raises(PolicyError, match="cannot be read"):
        RecordedModel.from_file("cheap", "m", tmp_path / "none.jsonl")


def test_starter_is_found() -> None:
    """``starter`` means the shipped recording."""
    model = RecordedModel.from_file("cheap", "smollm2-135m-instruct", "starter")
    assert ask(model, Prompt.of("?", id="fact-000"))[0].text


def test_what_is_not_recorded_costs_nothing() -> None:
    """A judge that asks for what is not there used nothing: the run's cost stays known."""
    answers = {"a": {"text": "x", "cost_usd": 0.001, "latency_s": 0.1}}
    with pytest.raises(NotRecordedError) as missing:
        asyncio.run(RecordedModel("m", "m", answers).answer(Prompt.of("q", id="b"), Request()))
    assert missing.value.usage == Usage()
