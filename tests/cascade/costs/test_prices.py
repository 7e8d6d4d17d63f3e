"""Usage becomes USD by one's own price or by the published list, and an unknown price stays unknown."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from cascade import Answer, Cascade, ScriptedModel
from cascade.costs import prices
from cascade.costs.estimate import Bounds, estimate
from cascade.costs.prices import Price, Pricer, list_price
from cascade.models.usage import chat_usage, message_usage
from cascade.policy.schema import ModelSpec, PolicyFile
from judges import Prompt, Usage

TOKENS = st.integers(0, 10_000_000)
RATES = st.floats(0, 1000)
PRICES = st.builds(Price, RATES, RATES, st.none() | RATES, st.none() | RATES, st.none() | RATES)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """A usage whose parts fit into their wholes."""
    plain, cached, written, output = (draw(TOKENS) for _ in range(4))
    return Usage(
        plain + cached + written,
        output,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
        reasoning_tokens=draw(st.integers(0, output)),
    )


FLAT = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("openai", "gpt-4.1-mini"),
    ("anthropic", "claude-3-5-haiku-latest"),
]
TIERED = ("anthropic", "claude-sonnet-4-5")


def by_library(provider: str, model: str, usage: Usage) -> float:
    """The library's own calculation."""
    list_usage = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens or None,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    return float(genai_prices.calc_price(list_usage, model, provider_id=provider).total_price)


def test_cost_counts_each_kind_of_token_once() -> None:
    """Cache reads and writes are part of the input, reasoning is part of the output."""
    price = Price(1.0, 10.0, cached_input_per_mtok=0.1, cache_write_per_mtok=1.25)
    usage = Usage(1_000_000, 100_000, cached_tokens=600_000, cache_write_tokens=200_000, reasoning_tokens=90_000)
    assert price.cost(usage) == pytest.approx(0.2 * 1.0 + 0.6 * 0.1 + 0.2 * 1.25 + 0.1 * 10.0)


def test_a_cache_price_of_zero_is_a_price() -> None:
    """None falls back to the input price; 0 does not."""
    usage = Usage(1_000_000, 0, cached_tokens=1_000_000)
    assert Price(2.0, 1.0).cost(usage) == pytest.approx(2.0)
    assert Price(2.0, 1.0, cached_input_per_mtok=0.0).cost(usage) == 0.0


@given(PRICES, usages(), usages())
def test_cost_is_additive_and_never_negative(price: Price, a: Usage, b: Usage) -> None:
    """Two calls cost together what they cost apart."""
    assert price.cost(a) >= 0.0
    assert price.cost(a + b) == pytest.approx(price.cost(a) + price.cost(b), rel=1e-9, abs=1e-12)


@given(PRICES, TOKENS, TOKENS, TOKENS)
def test_parts_larger_than_the_whole_never_make_a_negative_cost(price: Price, whole: int, read: int, written: int) -> None:
    """A provider's own count may be inconsistent; the cost is at least that of the parts."""
    assert price.cost(Usage(whole, 0, cached_tokens=read, cache_write_tokens=written)) >= 0.0


@given(st.sampled_from(FLAT), usages())
def test_a_flat_list_price_is_the_library_s(of: tuple[str, str], usage: Usage) -> None:
    """The cached rates give what the library calculates."""
    assert list_price(*of, usage) == pytest.approx(by_library(*of, usage), rel=1e-9)


@given(st.sampled_from([0, 100_000, 200_000, 200_001, 900_000]), st.integers(0, 50_000))
def test_a_tiered_list_price_is_the_library_s(tokens: int, output: int) -> None:
    """Where the rate depends on the amount, every usage is calculated by the library."""
    assert list_price(*TIERED, Usage(tokens, output)) == pytest.approx(by_library(*TIERED, Usage(tokens, output)))


def test_a_tiered_price_rises_with_the_amount() -> None:
    """Guards the test above: the model named there really has tiers."""
    small, large = list_price(*TIERED, Usage(100_000, 0)), list_price(*TIERED, Usage(1_000_000, 0))
    assert small is not None
    assert large is not None
    assert large > 10.5 * small


def test_a_tiered_price_takes_parts_larger_than_the_whole() -> None:
    """An inconsistent count is priced by its parts, not refused."""
    assert list_price(*TIERED, Usage(5, 1, cached_tokens=9)) == pytest.approx(
        by_library(*TIERED, Usage(9, 1, cached_tokens=9))
    )


def test_rates_that_change_with_time_are_not_kept() -> None:
    """A price with dates or hours is calculated anew, so that a long-running process keeps up with it."""
    snapshot = get_snapshot()
    models = [(p.id, m.id) for p in snapshot.providers if p.id == "deepseek" for m in p.models if isinstance(m.prices, list)]
    assert models
    usage, now = Usage(1000, 1000), datetime.now(tz=UTC)
    for provider, model in models:
        assert not isinstance(prices._flat(provider, model, None), Price)
        expected = snapshot.calc(genai_prices.Usage(input_tokens=1000, output_tokens=1000), model, provider, None, now)
        assert list_price(provider, model, usage) == pytest.approx(float(expected.total_price))


def test_a_price_per_request_is_counted() -> None:
    """A fee per request is part of the cost, although it is not a token's."""
    usage = Usage(1000, 1000)
    assert list_price("perplexity", "sonar", usage) == pytest.approx(by_library("perplexity", "sonar", usage))


@pytest.mark.parametrize(
    ("provider", "model", "base_url"),
    [
        ("openai", "no-such-model-at-all", None),
        ("no-such-provider", "gpt-4o", None),
        ("openai", "gpt-4o", "http://localhost:11434/v1"),
        ("openai", "text-embedding-3-small", None),
    ],
    ids=["model", "provider", "own server", "no output price"],
)
def test_what_has_no_list_price_is_unknown(provider: str, model: str, base_url: str | None) -> None:
    """Unknown is None, also for a usage of nothing, and again when asked again."""
    for usage in (Usage(1000, 10), Usage(), Usage(1000, 10)):
        assert list_price(provider, model, usage, base_url) is None


def test_the_provider_s_own_url_has_its_list_price() -> None:
    """A base_url that is a known provider's names that provider."""
    usage = Usage(1000, 10)
    assert list_price("openai", "gpt-4o", usage, "https://api.openai.com/v1") == list_price("openai", "gpt-4o", usage)


def test_the_price_of_nothing_is_zero() -> None:
    """Zero tokens at a known price cost 0, which differs from unknown."""
    assert list_price("openai", "gpt-4o", Usage()) == 0.0


def test_importing_prices_does_not_load_the_list() -> None:
    """The list is read on the first price asked for."""
    code = (
        "import sys, cascade.costs.prices as p; from judges import Usage\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert p.list_price('openai', 'gpt-4o', Usage(1, 1)) and 'genai_prices' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_flat_price_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated calls do not ask the library again, known or unknown."""
    calls: list[str] = []
    real = prices._calculation

    def counted(provider: str, model: str, usage: Usage, base_url: str | None) -> Any:
        calls.append(model)
        return real(provider, model, usage, base_url)

    monkeypatch.setattr(prices, "_calculation", counted)
    prices._flat.cache_clear()
    for _ in range(3):
        list_price("openai", "gpt-4o", Usage(1, 1))
        list_price("openai", "no-such-model-at-all", Usage(1, 1))
    assert sorted(calls) == ["gpt-4o", "no-such-model-at-all"]


def test_writes_for_an_hour_have_a_price_of_their_own() -> None:
    """Anthropic's: twice the input in place of 1.25 times, by the list and by a policy's own price; and budgets know it."""
    used = Usage(1000, 0, cached_tokens=100, cache_write_tokens=800, cache_write_1h_tokens=500)
    usd = (100 * 1 + 100 * 0.1 + 300 * 1.25 + 500 * 2) / 1e6
    assert list_price("anthropic", "claude-haiku-4-5", used) == pytest.approx(usd)
    assert Price(1, 5, 0.1, 1.25).cost(used) == pytest.approx(usd)
    assert Price(1, 5, 0.1, 1.25, 3).cost(used) == pytest.approx(usd + 500 / 1e6)
    assert Price(1, 5).cost(used) == pytest.approx(1000 / 1e6)
    assert Price(1, 5, 0.1, 1.25).cost(replace(used, cache_write_1h_tokens=0)) == pytest.approx(1110 / 1e6)
    spec = ModelSpec(provider="anthropic", model="claude-haiku-4-5", max_tokens=1)
    pricer, bounds = Pricer("m", spec), Bounds.of(spec)

    def reserved(mark: Any) -> float:
        text = {"type": "text", "text": "x" * 1000, "cache_control": mark}
        usd = estimate(pricer, bounds, Prompt.of([{"role": "user", "content": [text]}]), n=1, max_tokens=1)
        assert usd is not None
        return usd

    assert reserved({"type": "ephemeral", "ttl": "1h"}) > 1.5 * reserved({"type": "ephemeral"})
    assert reserved({"type": "ephemeral", "ttl": "1h"}) >= 1000 / 4 * 2 / 1e6


@pytest.mark.parametrize(
    ("counts", "cached", "written", "hour"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 80}}, 80, 0, 0), ({"prompt_cache_hit_tokens": 80}, 80, 0, 0),
        ({"cached_tokens": 80}, 80, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20}}, 60, 20, 0),
        ({"cache_read_input_tokens": 60, "cache_creation_input_tokens": 20}, 60, 20, 0),
        ({"prompt_tokens_details": {"cached_tokens": 60, "cache_creation_tokens": 20},
          "cache_creation": {"ephemeral_1h_input_tokens": 20}}, 60, 20, 20),
        ({"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 100}, 0, 0, 0),
    ],
)  # fmt: skip
def test_cached_tokens_of_every_server(counts: dict[str, Any], cached: int, written: int, hour: int) -> None:
    """OpenAI, DeepSeek, Moonshot, OpenRouter and LiteLLM count them in fields of their own."""
    usage = chat_usage({"prompt_tokens": 100, "completion_tokens": 5, **counts}, "m")
    assert usage == Usage(100, 5, cached_tokens=cached, cache_write_tokens=written, cache_write_1h_tokens=hour)


def test_counts_by_the_names_of_the_responses_api() -> None:
    """Some servers of chat completions use them."""
    counts = {"input_tokens": 100, "output_tokens": 5, "total_tokens": 105, "input_tokens_details": {"cached_tokens": 80}}
    assert chat_usage(counts, "m") == Usage(100, 5, cached_tokens=80)


def test_anthropics_writes() -> None:
    """Cache writes for five minutes and for an hour; invalid counts are ignored."""
    counts = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 70}
    kinds: list[tuple[Any, int]] = [
        ({"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40}, 40),
        (None, 0),
        (5, 0),
    ]
    for kind, hour in (*kinds, ({"ephemeral_1h_input_tokens": 99}, 70), ({"ephemeral_1h_input_tokens": "x"}, 0)):
        usage = message_usage({**counts, "cache_creation": kind}, "m")
        assert usage == Usage(100, 5, cached_tokens=20, cache_write_tokens=70, cache_write_1h_tokens=hour)


def test_premium_is_compared_like_with_like() -> None:
    """The same share of cached input, at the premium model's own prices of cached input."""
    used = Usage(1000, 100, cached_tokens=800, cache_write_tokens=100, cache_write_1h_tokens=100)
    answer = Answer("51", usage=used, mean_logprob=-0.01)
    tiers = [{"model": "a", "accept_at": 0.5, "judges": ["logprob"]}, {"model": "b"}]
    price = {"input_per_mtok": 3, "cached_input_per_mtok": 0.3, "cache_write_per_mtok": 3.75, "output_per_mtok": 15}
    models = {
        "a": {"provider": "scripted", "answers": ["x"]},
        "b": {"provider": "scripted", "answers": ["x"], "price": price},
    }
    file = PolicyFile.model_validate({"models": models, "policies": {"default": {"tiers": tiers}}})
    with Cascade(file, models={"a": ScriptedModel("a", [answer])}) as cascade:
        result = cascade.run("17 * 3?")
        assert result.tier == "a"

        async def premium() -> float | None:
            compiled = cascade._runtime.compile("default")
            return compiled.premium_usd(Prompt.of("17 * 3?"), result.attempts, result)

        assert asyncio.run(premium()) == pytest.approx((100 * 3 + 800 * 0.3 + 100 * 6 + 100 * 15) / 1e6)
