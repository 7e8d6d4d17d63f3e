"""What the last tier alone would have cost."""

import asyncio

import pytest

from cascade import Answer, Cascade, Usage
from cascade.costs.baseline_cost import premium_usd
from cascade.costs.prices import Price
from cascade.models.scripted import ScriptedModel
from cascade.policy.schema import PolicyFile
from judges import Prompt


def test_a_sample_without_a_count_of_its_own_is_priced_as_the_answer_was() -> None:
    """The tokens of several samples are counted with the first of them: premium would not have been free."""
    used = Usage(1000, 50, cached_tokens=800)
    answers = [
        Answer("5", finish_reason="stop", usage=used),
        *(Answer("4", finish_reason="stop", usage=Usage()) for _ in range(6)),
    ]
    tiers = [{"name": "a", "model": "a", "accept_at": 0.1, "judges": ["self_consistency"]}, {"name": "b", "model": "b"}]
    models = {name: {"provider": "scripted", "answers": ["x"]} for name in "ab"}
    file = PolicyFile.model_validate({"models": models, "policies": {"default": {"tiers": tiers}}})
    service = Cascade(file, models={"a": ScriptedModel("a", answers), "b": ScriptedModel("b", answers)})

    async def go() -> None:
        async with service:
            result = await service.arun("2 + 2?")
        assert (result.text, result.tier) == ("4", "a")
        assert result.answer is not None
        assert result.answer.usage == Usage()
        price = Price(2.0, 8.0, cached_input_per_mtok=0.2)
        usd = premium_usd(
            Prompt.of("2 + 2?"),
            result.attempts,
            result,
            tier="b",
            price=lambda usage: None if usage is None else price.cost(usage),
        )
        assert usd == pytest.approx(price.cost(used))

    asyncio.run(go())
