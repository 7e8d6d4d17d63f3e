"""Which rows of a recording a replay uses, which judges those rows can feed, and what is odd about them."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from cascade.policy.schema import JudgeRule
from cascade.util.messages import counted
from evals.common.judge_spec import JudgeSpecError, judge_rule
from evals.recording import Example

from .recorded_verdicts import verdict_names

MAX_LEFT_OUT = 0.2
MOST_SAMPLES = 19
Rules = list[dict[str, Any]]
_REMEDIES = {
    "a tier has no answer": "ask for the missing answers (cascade record RECORDING --missing --policy-file FILE --out FILE)",
    "not graded": "grade the answers (cascade grade RECORDING --grader NAME)",
    "cost unknown": "give cost_usd, without which thresholds cannot be chosen by cost",
}


class ReplayError(ValueError):
    """A replay is not possible; the message says why and what to do."""


def usable_rows(examples: Sequence[Example], tiers: Sequence[str]) -> tuple[list[Example], dict[str, int], list[str]]:
    """The rows that every tier answered, priced and graded; how many were left out for which reason; warnings naming them.

    Raises ReplayError where no row is left, or where the rows left are no sample: see ``rows.sampling``.
    """
    ids_by_reason: dict[str, list[str]] = {"a tier has no answer": [], "not graded": [], "cost unknown": []}
    rows = []
    for example in examples:
        answers = [example.answers.get(tier) for tier in tiers]
        if any(a is None for a in answers):
            ids_by_reason["a tier has no answer"].append(example.id)
        elif any(a is not None and a.get("quality") is None for a in answers):
            ids_by_reason["not graded"].append(example.id)
        elif any(a is not None and a.get("cost_usd") is None for a in answers):
            ids_by_reason["cost unknown"].append(example.id)
        else:
            rows.append(example)
    n_left_out = len(examples) - len(rows)
    counts = {reason: len(ids) for reason, ids in ids_by_reason.items()}
    why = "; ".join(f"{len(ids)} {reason}: {preview(ids)}" for reason, ids in ids_by_reason.items() if ids)
    if examples and not rows:
        remedies = [remedy for reason, remedy in _REMEDIES.items() if ids_by_reason[reason]]
        raise ReplayError(
            f"none of {len(examples):,} rows can be used ({why}); {', '.join(remedies)}, or choose other tiers"
        )
    warnings = [
        f"left out: {counted(len(ids), 'row')}, {reason}: {preview(ids)}" for reason, ids in ids_by_reason.items() if ids
    ]
    if n_left_out > MAX_LEFT_OUT * len(examples):
        reasons = ", ".join(f"{reason} ({len(ids):,})" for reason, ids in ids_by_reason.items() if ids)
        warnings = [
            f"{len(rows):,} of {len(examples):,} rows used, because of the others: {reasons}; what is certified holds for "
            "prompts like those used",
            *warnings,
        ]
    return rows, counts, warnings


def row_warnings(examples: Sequence[Example], tiers: Sequence[str]) -> list[str]:
    """Warnings about rows that are used but may not be what was meant, each with the rows' ids."""
    warnings = []
    tasks = Counter(e.task for e in examples)
    lone = [e.id for e in examples if tasks[e.task] == 1]
    if lone and len(tasks) > 1:
        warnings.append(f"{counted(len(lone), 'task')} of a single row, which is in one split only: {preview(lone)}")
    texts: dict[str, list[str]] = {}
    for e in examples:
        texts.setdefault(prompt_key(e), []).append(e.id)
    repeated = [ids for ids in texts.values() if len(ids) > 1]
    if repeated:
        warnings.append(
            f"prompts that occur more than once: {len(repeated):,}; each is kept in one split, but if they are rarer in "
            "your traffic, the certificate is too confident: " + preview([" = ".join(ids[:3]) for ids in repeated])
        )
    # The same text against the same reference cannot be both right and wrong.
    clash = []
    for e in examples:
        graded: dict[str, set[float]] = {}
        for tier in tiers:
            graded.setdefault(e.answers[tier]["text"].strip(), set()).add(float(e.answers[tier]["quality"]))
        if any(len(q) > 1 for q in graded.values()):
            clash.append(e.id)
    if clash:
        warnings.append(
            f"one and the same answer is graded differently for two models in {counted(len(clash), 'row')}: {preview(clash)}"
        )
    free = [t for t in tiers if all(not e.answers[t]["cost_usd"] for e in examples)]
    if free:
        warnings.append(f"every answer of {', '.join(free)} costs 0; give real prices if it is not free")
    mean = {t: sum(e.answers[t]["cost_usd"] for e in examples) / max(len(examples), 1) for t in tiers}
    dearer = [t for t in tiers if mean[t] > mean[tiers[-1]]]
    if dearer:
        warnings.append(
            f"{', '.join(dearer)} cost more than {tiers[-1]}, which is taken for the premium tier because it is the last; "
            "name them with --tiers, cheapest first, if that is not meant"
        )
    return warnings


def prompt_key(example: Example) -> str:
    """Identifies a question: equal where system message and prompt are equal."""
    return repr((example.system, example.prompt))


def session_of(example: Example) -> str | None:
    """The conversation that the row is a turn of, by its field ``session``; None where it has none."""
    session = example.raw.get("session")
    return None if session is None else f"session {session}"


def preview(ids: Sequence[str], most: int = 5) -> str:
    """The first of the ids, and how many more there are."""
    return ", ".join(map(str, ids[:most])) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def default_judges(examples: Sequence[Example], tier: str) -> Rules:
    """The judges that the recording can feed, cheapest first.

    Where ten samples or more were recorded, self-consistency stops later than it does by default (0.99): the share of votes
    is then finer, and so are the thresholds.
    """
    answers = [e.answers[tier] for e in examples]
    rules: Rules = [{"use": "schema"}] if any(e.schema for e in examples) else []
    rules.append({"use": "rules"})
    if any(a.get("logprob") is not None or a.get("token_logprobs") for a in answers):
        rules.append({"use": "logprob"})
    if any("verifier" in (a.get("verdicts") or {}) for a in answers):
        rules.append({"use": "verifier"})
    rules += [{"use": name} for name in verdict_names(examples, tier)]
    counts = [len(a.get("samples") or ()) for a in answers]
    if max(counts, default=0):
        many = sorted(counts)[len(counts) // 2]
        options = {"samples": min(many, MOST_SAMPLES), "stop_at": 0.99} if many >= 10 else {"samples": max(many, 1)}
        rules.append({"use": "self_consistency", **options})
    return rules


def judge_plans(examples: Sequence[Example], tier: str) -> list[Rules]:
    """``default_judges``, and the same with at most four samples; tuning chooses between them."""
    full = default_judges(examples, tier)
    if full[-1]["use"] == "self_consistency" and full[-1]["samples"] > 4:
        return [full, [*full[:-1], {"use": "self_consistency", "samples": 4}]]
    return [full]


def named_judges(names: Sequence[str], examples: Sequence[Example], tier: str) -> Rules:
    """The judges called ``names``, each ``judge`` or ``judge:option=value:...``; self-consistency only where samples are.

    Raises ReplayError for an option that is not written like that.
    """
    sampled = any(e.answers[tier].get("samples") for e in examples)
    rules = [judge_rule(name) for name in names]
    return [rule for rule in rules if sampled or rule["use"] != "self_consistency"]


def check_judges(names: Sequence[str], examples: Sequence[Example], tiers: Sequence[str]) -> None:
    """Raises ReplayError for a judge that is unknown, has other options, is named twice, or has no data in any tier."""
    for name in names:
        try:
            JudgeRule.model_validate(judge_rule(name))
        except JudgeSpecError as error:
            raise ReplayError(str(error)) from None
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ReplayError(f"--judges: {name!r}: {why}") from None
    uses = [name.split(":")[0] for name in names]
    if repeated := [use for use in uses if uses.count(use) > 1]:
        raise ReplayError(f"--judges: {repeated[0]!r} is named twice; name each judge once")
    if "self_consistency" in uses and not any(e.answers[t].get("samples") for e in examples for t in tiers):
        raise ReplayError("--judges: 'self_consistency' needs recorded samples, and no tier has any; leave it out")


def check_tiers(tiers: Sequence[str], models: Sequence[str]) -> None:
    """Raises ReplayError where a tier is not a model of the recording or is named twice."""
    for tier in tiers:
        if tier not in models:
            near = get_close_matches(tier, models, 3, 0.4)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ReplayError(f"the recording has no model {tier!r}{hint}; it has: {', '.join(models)}")
    if len(set(tiers)) < len(tiers):
        raise ReplayError(f"a model is named twice in the ladder {', '.join(tiers)}; name each once")
