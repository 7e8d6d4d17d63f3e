"""Usage -> USD, or None where the price is unknown (never 0)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from cascade.util.providers import KEY_ENV
from judges import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens; a cache price of None means that of ordinary input.

    Writes that are kept for an hour cost ``cache_write_1h_per_mtok``; None: 1.6 times the other writes, as at Anthropic.
    """

    input_per_mtok: float
    output_per_mtok: float
    cached_input_per_mtok: float | None = None
    cache_write_per_mtok: float | None = None
    cache_write_1h_per_mtok: float | None = None

    def cost(self, usage: Usage) -> float:
        """USD of one usage. ``input_tokens`` includes cache reads and writes, ``output_tokens`` reasoning."""
        cached, written = usage.cached_tokens, usage.cache_write_tokens
        plain = max(usage.input_tokens - cached - written, 0)
        read = self.input_per_mtok if self.cached_input_per_mtok is None else self.cached_input_per_mtok
        write = self.input_per_mtok if self.cache_write_per_mtok is None else self.cache_write_per_mtok
        paid_in = plain * self.input_per_mtok + cached * read + written * write
        if usage.cache_write_1h_tokens:
            paid_in += min(usage.cache_write_1h_tokens, written) * (self._hour_write(write) - write)
        return (paid_in + usage.output_tokens * self.output_per_mtok) / 1e6

    def _hour_write(self, write: float) -> float:
        if self.cache_write_1h_per_mtok is not None:
            return self.cache_write_1h_per_mtok
        return write if self.cache_write_per_mtok is None else _HOUR_RATIO * write


_HOUR_RATIO = 1.6  # Anthropic: twice the input, in place of 1.25 times


def list_price(provider: str, model: str, usage: Usage, base_url: str | None = None) -> float | None:
    """USD by the published list (genai-prices, the installed snapshot, no network), or None where it has no price.

    With a ``base_url`` the provider is the one whose API that is; a self-hosted server has no list price.
    """
    flat = _flat(provider, model, base_url)
    if flat is None:
        return None
    return flat.cost(usage) if isinstance(flat, Price) else _calculated(provider, model, usage, base_url)


_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
# Other costs of text: such a price is not a sum over our kinds of tokens.
_EXTRA = ("requests_kcount", "output_reasoning_mtok")


@lru_cache(maxsize=512)
def _flat(provider: str, model: str, base_url: str | None) -> Price | bool | None:
    """The price where a token always costs the same; True where it depends on amount or time; None where unknown."""
    calculation = _calculation(provider, model, Usage(1, 1), base_url)
    if calculation is None:
        return None
    price = calculation.model_price
    rates = [getattr(price, field, None) for field in _RATES]
    if rates[0] is None or rates[1] is None:
        return None
    # A list of prices holds the dates or hours at which each applies, which a long-running process will pass.
    if isinstance(calculation.model.prices, list) or any(getattr(price, field, None) is not None for field in _EXTRA):
        return True
    try:
        plain, output, read, write, hour = (None if rate is None else float(rate) for rate in rates)
    except (TypeError, ValueError):
        return True
    assert plain is not None
    assert output is not None
    return Price(plain, output, read, write, hour)


def _calculated(provider: str, model: str, usage: Usage, base_url: str | None) -> float | None:
    calculation = _calculation(provider, model, usage, base_url)
    return None if calculation is None else float(calculation.total_price)


def _calculation(provider: str, model: str, usage: Usage, base_url: str | None) -> Any:
    # Loaded here: reading the price list takes 30 ms, which no import of cascade should pay.
    from genai_prices import Usage as ListUsage
    from genai_prices import calc_price

    list_usage = ListUsage(
        # The library refuses parts larger than the whole, which a provider's own count may be; Price takes them.
        input_tokens=max(usage.input_tokens, usage.cached_tokens + usage.cache_write_tokens),
        output_tokens=max(usage.output_tokens, usage.reasoning_tokens),
        cache_read_tokens=usage.cached_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
        cache_write_1h_tokens=min(usage.cache_write_1h_tokens, usage.cache_write_tokens) or None,
        output_reasoning_tokens=usage.reasoning_tokens or None,
    )
    try:
        if base_url is None:
            return calc_price(list_usage, model, provider_id=provider)
        return calc_price(list_usage, model, provider_api_url=base_url)
    except LookupError:
        return None


class Rates(Protocol):
    """A model's own price in USD per million tokens, as the policy file states it."""

    @property
    def input_per_mtok(self) -> float: ...
    @property
    def output_per_mtok(self) -> float: ...
    @property
    def cached_input_per_mtok(self) -> float | None: ...
    @property
    def cache_write_per_mtok(self) -> float | None: ...
    @property
    def cache_write_1h_per_mtok(self) -> float | None: ...


class ModelSettings(Protocol):
    """The settings of a model that decide what its calls cost; ``cascade.policy.schema.ModelSpec`` has them."""

    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def price(self) -> Rates | None: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def n(self) -> bool: ...
    @property
    def image_tokens(self) -> int: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


class Pricer:
    """Usage -> USD for one model of a policy: the policy's own price, else the list price, else None."""

    def __init__(self, name: str, spec: ModelSettings | None) -> None:
        self.spec, self.name = spec, name
        price = spec.price if spec is not None else None
        self.price = _price_of(price) if price is not None else None

    @cached_property
    def writes_cost_no_more(self) -> bool:
        """Whether what is written to the provider's cache is known to cost no more than other input."""
        if self.price is None:
            return False
        dearest = max(self.price.cache_write_per_mtok or 0.0, self.price.cache_write_1h_per_mtok or 0.0)
        return dearest <= self.price.input_per_mtok

    def cost(self, usage: Usage | None) -> float | None:
        """USD of one call; None where usage or price is unknown."""
        if usage is None or self.spec is None:
            return None
        if self.price is not None:
            return self.price.cost(usage)
        if self.spec.provider not in KEY_ENV:
            return None
        return list_price(self.spec.provider, self.spec.model or self.name, usage, self.spec.base_url)


def _price_of(rates: Rates) -> Price:
    return Price(
        input_per_mtok=rates.input_per_mtok,
        output_per_mtok=rates.output_per_mtok,
        cached_input_per_mtok=rates.cached_input_per_mtok,
        cache_write_per_mtok=rates.cache_write_per_mtok,
        cache_write_1h_per_mtok=rates.cache_write_1h_per_mtok,
    )
