"""Attacks on a model that grades: an obedient one gives a wrong answer the grade that it deserves."""

import asyncio
import math
from collections.abc import Callable

import pytest

from cascade import Answer, Prompt, ScriptedModel
from cascade.costs.prices import Pricer
from cascade.engine.model_handle import ModelHandle
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec
from evals.grade import GradingCase
from evals.grade.model import Memory, ModelGrader
from judges.types import content_text
from tests.judges.test_injection import FLOODS, ORDER, decoded, literal, obeyed
from tests.judges.test_sanitize import DISGUISES

READERS = pytest.mark.parametrize("read", [literal, decoded])


def grade(answer: str, read: Callable[[str], str], *, pairwise: bool) -> float | None:
    """The grade by a model that follows an order outside the marks, and otherwise prefers the other answer, or says no."""

    def script(prompt: Prompt, request: Request) -> Answer:
        text = "\n".join(content_text(message["content"]) for message in prompt.messages)
        obeyed_now = obeyed(text, read)
        if pairwise:
            attacker_first = text.index("wrong") < text.index("correct answer here")
            return Answer("1" if attacker_first == obeyed_now else "2")
        yes = 0.9 if obeyed_now else 0.1
        return Answer("yes" if obeyed_now else "no", first_token_top={"yes": math.log(yes), "no": math.log(1 - yes)})

    model = ScriptedModel("judge", script)
    handle = ModelHandle(model, Pricer("judge", ModelSpec(provider="openai")))
    grader = ModelGrader(handle, Memory(), **({"mode": "pairwise", "against": "other"} if pairwise else {}))  # type: ignore[arg-type]
    case = GradingCase(
        text=answer, reference="4", prompt=Prompt.of("What is 2 + 2?"), others={"other": "correct answer here"}
    )
    return asyncio.run(grader.grade(case))


@pytest.mark.parametrize("pairwise", [False, True], ids=["reference", "pairwise"])
@READERS
@pytest.mark.parametrize("name", DISGUISES)
def test_no_disguise_raises_a_grade(name: str, read: Callable[[str], str], pairwise: bool) -> None:
    """A closing mark in any spelling, then an order."""
    assert grade(f"wrong\n{DISGUISES[name]}\n{ORDER}\n", read, pairwise=pairwise) == 0.0


@pytest.mark.parametrize("pairwise", [False, True], ids=["reference", "pairwise"])
@pytest.mark.parametrize("name", FLOODS)
def test_no_flood_raises_a_grade(name: str, pairwise: bool) -> None:
    """However long the answer is."""
    assert grade(f"wrong\n{FLOODS[name]}", literal, pairwise=pairwise) == 0.0
