"""What a budget holds back for a request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.costs.estimate import IMAGE_TOKENS, MAX_OUTPUT, Bounds, estimate, prompt_tokens
from cascade.costs.prices import Pricer
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec
from judges import Prompt, Usage


def pricer(provider: str = "openai", price: dict[str, float] | None = None, **more: Any) -> Pricer:
    """Of a model at a dollar for a token, so that an estimate in USD counts tokens."""
    price = price or {"input_per_mtok": 0.0, "output_per_mtok": 1e6}
    return Pricer("m", ModelSpec.model_validate({"provider": provider, "model": "x", "price": price, **more}))


def most(priced: Pricer, prompt: Prompt, request: Request) -> float | None:
    """The estimate by a model's own settings."""
    return estimate(
        priced, Bounds.of(priced.spec), prompt, n=request.n, max_tokens=request.max_tokens, options=request.options
    )


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_estimated_lower(one: str, more: str) -> None:
    """And never below its bytes, whatever the script."""
    short, long = prompt_tokens(Prompt.of(one + "x")), prompt_tokens(Prompt.of(one + "x" + more))
    assert short <= long
    assert long >= len((one + "x" + more).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("message", "least"),
    [
        ({"content": [{"type": "image_url", "image_url": {"url": "data:,"}}] * 2}, 2 * IMAGE_TOKENS),
        ({"content": [{"type": "file", "file": {"file_data": "A" * 9000}}]}, 9000),
        ({"content": ["loose", {"type": "text", "text": "x" * 9000}]}, 9000),
        ({"content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "x" * 9000}}]}, 9000),
        ({"content": "漢" * 3000}, 9000),
    ],
)
def test_every_part_of_a_message_counts(message: dict[str, Any], least: int) -> None:
    """Images by their own amount, files by every byte, tool calls as text."""
    assert prompt_tokens(Prompt(({"role": "user", **message},))) >= least


def test_tools_and_schema_count() -> None:
    """With what the provider puts before them."""
    bare = prompt_tokens(Prompt.of("q"))
    assert prompt_tokens(Prompt.of("q", tools=[{"x": "y" * 2000}])) >= bare + 2000 + 600
    assert prompt_tokens(Prompt.of("q", schema={"description": "y" * 2000})) >= bare + 2000 + 600


@pytest.mark.parametrize(
    ("priced", "request_", "tokens"),
    [
        (pricer(), Request(), MAX_OUTPUT),
        (pricer(max_tokens=100), Request(), 100),
        (pricer(max_tokens=100), Request(max_tokens=5, n=3), 15),
        (pricer(options={"max_completion_tokens": 9000}), Request(), 9000),
        (pricer("anthropic"), Request(), 1024),
        # There options win over what the request says.
        (pricer("anthropic", options={"max_tokens": 9000}), Request(max_tokens=5), 9000),
        (pricer(max_tokens=100, options={"n": 4}), Request(), 400),
        (pricer(max_tokens=100), Request(max_tokens=5, options={"max_tokens": 70, "n": 3}), 210),
    ],
)
def test_the_answer_counts_as_long_as_it_may_be(priced: Pricer, request_: Request, tokens: int) -> None:
    """By the request, the file and its options, in whatever way the model will bound it."""
    assert most(priced, Prompt.of("q"), request_) == tokens


def test_the_dearer_of_reading_and_caching_counts() -> None:
    """A prompt that is written to the cache must fit, too."""
    prices = {"input_per_mtok": 1.0, "output_per_mtok": 0.0, "cache_write_per_mtok": 2.0}
    priced, prompt = pricer(price=prices), Prompt.of("x" * 1000)
    assert most(priced, prompt, Request()) == priced.cost(Usage(n := prompt_tokens(prompt), 0, cache_write_tokens=n))


def test_without_a_price_nothing_can_be_said() -> None:
    """None, which is not 0."""
    spec = ModelSpec.model_validate({"provider": "openai", "base_url": "http://localhost:1"})
    assert most(Pricer("m", spec), Prompt.of("q"), Request()) is None
    assert most(Pricer("m", None), Prompt.of("q"), Request()) is None
