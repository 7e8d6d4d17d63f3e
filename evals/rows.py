"""Which rows of a recording a replay uses, and which judges those rows can feed."""

import random
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from evals.recording import Example

MAX_LEFT_OUT = 0.2
Rules = list[dict[str, Any]]


class ReplayError(ValueError):
    """A replay that cannot be done; the message says why and what to do."""


def usable(examples: Sequence[Example], tiers: Sequence[str]) -> tuple[list[Example], dict[str, int]]:
    """The rows that every tier answered and that are graded, and how many were left out for which reason."""
    left_out, kept = {"a tier has no answer": 0, "not graded": 0}, []
    for example in examples:
        found = [example.answers.get(tier) for tier in tiers]
        if any(a is None for a in found):
            left_out["a tier has no answer"] += 1
        elif any(a is not None and a.get("quality") is None for a in found):
            left_out["not graded"] += 1
        else:
            kept.append(example)
    gone = len(examples) - len(kept)
    if gone > MAX_LEFT_OUT * len(examples):
        why = ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n)
        raise ReplayError(f"{gone} of {len(examples)} rows cannot be used ({why}); grade them or choose other tiers")
    return kept, left_out


def split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """The recording's own train and test rows, else halves drawn with ``seed`` within each task."""
    parts = [[e for e in examples if e.split == name] for name in ("train", "test")]
    if not all(parts):
        rng = random.Random(seed)
        parts = [[], []]
        tasks: dict[str, list[Example]] = {}
        for example in examples:
            tasks.setdefault(example.task, []).append(example)
        for members in tasks.values():
            rng.shuffle(members)
            for i, example in enumerate(members):
                parts[i % 2].append(example)
    if not all(parts):
        raise ReplayError("fewer than two usable rows; a replay needs rows to choose thresholds on and rows to test")
    return parts[0], parts[1]


def default_judges(train: Sequence[Example], tier: str) -> Rules:
    """The judges that the recording can feed, cheapest first."""
    answers = [e.answers[tier] for e in train]
    rules: Rules = [{"use": "schema"}] if any(e.schema for e in train) else []
    rules.append({"use": "rules"})
    if any(a.get("logprob") is not None or a.get("token_logprobs") for a in answers):
        rules.append({"use": "logprob"})
    if any("verifier" in (a.get("verdicts") or {}) for a in answers):
        rules.append({"use": "verifier"})
    if any(a.get("samples") for a in answers):
        rules.append({"use": "self_consistency"})
    return rules


def named_judges(names: Sequence[str], train: Sequence[Example], tier: str) -> Rules:
    """The judges called ``names``; self-consistency only where the tier has samples."""
    sampled = any(e.answers[tier].get("samples") for e in train)
    return [{"use": name} for name in names if name != "self_consistency" or sampled]


def oracle(example: Example, tiers: Sequence[str]) -> str:
    """The cheapest tier whose answer is as good as the best (unknown costs count as dear, then by order)."""
    top = max(example.answers[t]["quality"] for t in tiers)
    good = [t for t in tiers if example.answers[t]["quality"] == top]

    def usd(tier: str) -> float:
        cost = example.answers[tier].get("cost_usd")
        return float("inf") if cost is None else float(cost)

    return min(good, key=usd)


def check_tiers(tiers: Sequence[str], known: Sequence[str]) -> None:
    """Raises ReplayError where a tier is not a model of the recording or stands twice."""
    for tier in tiers:
        if tier not in known:
            near = get_close_matches(tier, known, 3, 0.4)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ReplayError(f"the recording has no model {tier!r}{hint}; it has: {', '.join(known)}")
    if len(set(tiers)) < len(tiers):
        raise ReplayError("a tier stands twice in --tiers")
