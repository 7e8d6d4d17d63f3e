"""Models built from a policy file."""

import asyncio

from cascade.models.factory import build
from cascade.models.protocol import Request
from cascade.models.scripted import ScriptedModel
from cascade.policy.schema import ModelSpec
from judges import Prompt


def test_a_scripted_model_of_a_policy_keeps_no_prompts() -> None:
    """A gateway that serves scripted answers for weeks would hold every prompt of them."""
    model = build("small", ModelSpec(provider="scripted", answers=("51",)))
    assert isinstance(model, ScriptedModel)
    [answer] = asyncio.run(model.answer(Prompt("What is 17 * 3?"), Request()))
    assert answer.text == "51"
    assert model.calls == []
