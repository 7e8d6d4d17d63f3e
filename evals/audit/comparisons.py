"""What changed since the period before, and which callers fare worse than the others: findings that need no label."""

from collections.abc import Iterator, Mapping
from math import sqrt

from cascade.policy.schema import Policy

from .findings import Change
from .traffic import Group, Traffic

LEAST_RUNS = 50
SURE = 4.5
"""Standard errors from which on a difference of two shares is no chance; many groups are compared."""
_STARVES, _JUMP, _PRICE, _FAILING, _UNPRICED, _SLOWER = 0.1, 0.15, 1.3, 0.05, 0.05, 2.0


def comparisons(now: Traffic, before: Traffic, policies: Mapping[str, Policy]) -> Iterator[Change]:
    """The findings, each with what to look at.

    Args:
        now: The period.
        before: The period before it.
        policies: The policy file's policies by name.
    """
    yield from _failing(now)
    yield from _starving(now)
    yield from _prices(now, before)
    yield from _escalations(now, before, policies)
    yield from _unpriced(now)
    yield from _slower(now, before)


def _failing(now: Traffic) -> Iterator[Change]:
    for name, group in now.groups["policy"].items():
        if group.runs >= LEAST_RUNS and group.failed / group.runs > _FAILING:
            yield Change(
                title=f"{name}: give its models fallbacks, providers fail",
                price="nothing while the models answer",
                effect=f"{group.failed} of {group.runs} runs ended without any answer",
                lines=f"policies:\n  {name}:\n    tiers:  # fallbacks: [another model] for the tier that fails",
            )


def _starving(now: Traffic) -> Iterator[Change]:
    """Keys of which a larger share is stopped than of all others together."""
    total = now.total
    for key, group in now.groups["key"].items():
        rest = Group(runs=total.runs - group.runs, stopped=total.stopped - group.stopped)
        if min(group.runs, rest.runs) < LEAST_RUNS or group.stopped / group.runs < _STARVES:
            continue
        if _more((group.stopped, group.runs), (rest.stopped, rest.runs)):
            yield Change(
                title=f"key {key}: give it a larger budget",
                price="up to what the stopped runs would have cost",
                effect=f"{group.stopped} of its {group.runs} runs were stopped; of all others {rest.stopped} of {rest.runs}",
                lines=f"cascade keys create {key} --usd-per-day ...   # a new key with more, then revoke the old one",
            )


def _prices(now: Traffic, before: Traffic) -> Iterator[Change]:
    """Tiers whose runs cost another amount than in the period before."""
    for tier, group in now.groups["tier"].items():
        earlier = before.groups["tier"].get(tier)
        if earlier is None:
            continue
        priced, priced_before = group.runs - group.unpriced, earlier.runs - earlier.unpriced
        if min(priced, priced_before) < LEAST_RUNS or not group.usd or not earlier.usd:
            continue
        each, each_before = group.usd / priced, earlier.usd / priced_before
        ratio = each / each_before
        if not 1.0 / _PRICE <= ratio <= _PRICE:
            yield Change(
                title=f"tier {tier}: check its model's price, and its answers' length",
                price=f"{each * 1_000:.4f} USD per 1,000 runs, {each_before * 1_000:.4f} before",
                effect=f"a run that it answered costs {ratio:.2f} times what it did in the period before",
                lines="models:  # price: {input_per_mtok: ..., output_per_mtok: ...}",
            )


def _escalations(now: Traffic, before: Traffic, policies: Mapping[str, Policy]) -> Iterator[Change]:
    """Policies that escalate much more than before: a judge or the first tier broke, or prompts changed."""
    for name, group in now.groups["policy"].items():
        earlier = before.groups["policy"].get(name)
        if earlier is None or name not in policies or min(group.runs, earlier.runs) < LEAST_RUNS:
            continue
        rise = group.escalated / group.runs - earlier.escalated / earlier.runs
        if rise > _JUMP and _more((group.escalated, group.runs), (earlier.escalated, earlier.runs)):
            yield Change(
                title=f"{name}: look at its judges and its first tier, escalations rose",
                price=f"{group.usd / group.runs * 1_000:.4f} USD per 1,000 runs, "
                f"{earlier.usd / earlier.runs * 1_000:.4f} before",
                effect=f"{group.escalated / group.runs:.0%} of the runs escalated, "
                f"{earlier.escalated / earlier.runs:.0%} in the period before",
                lines="cascade journal tail   # then cascade journal show RUN_ID: which judge scores lower, or not at all?",
            )


def _unpriced(now: Traffic) -> Iterator[Change]:
    total = now.total
    if total.runs >= LEAST_RUNS and total.unpriced / total.runs > _UNPRICED:
        yield Change(
            title="give the prices of all models: costs are unknown",
            price="nothing",
            effect=f"the cost of {total.unpriced} of {total.runs} runs is unknown; no budget holds them",
            lines="models:  # price: {input_per_mtok: ..., output_per_mtok: ...}",
        )


def _slower(now: Traffic, before: Traffic) -> Iterator[Change]:
    for tier, group in now.groups["tier"].items():
        earlier = before.groups["tier"].get(tier)
        if earlier is None or min(group.runs, earlier.runs) < LEAST_RUNS or not earlier.seconds:
            continue
        ratio = (group.seconds / group.runs) / (earlier.seconds / earlier.runs)
        if ratio > _SLOWER:
            yield Change(
                title=f"tier {tier}: hedge it or add a fallback, it became slow",
                price="a second request for the slowest twentieth of the calls",
                effect=f"its runs take {group.seconds / group.runs:.2f} s, {ratio:.1f} times as long as before",
                lines="models:  # hedge: true, for the model of this tier",
            )


def _more(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the first share is larger than the second by more than chance; pairs of a count and its whole."""
    share = (one[0] + other[0]) / (one[1] + other[1])
    error = sqrt(share * (1.0 - share) * (1.0 / one[1] + 1.0 / other[1]))
    return error > 0.0 and (one[0] / one[1] - other[0] / other[1]) / error > SURE
