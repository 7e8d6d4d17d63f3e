"""What a replay prints: a verdict in three lines, a table of at most 100 columns, the menu, the tasks, the next step."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from evals.replay.certificate.menu import WIDTH, in_words
from evals.replay.evidence.cofailure import in_words as ceilings

from .table import ResultRow, clip, render

MOST_TASKS = 8


def report(
    rows: Sequence[ResultRow],
    data: Mapping[str, Any],
    per_second: float,
    *,
    full: bool = False,
    written: Sequence[str] = (),
    next_commands: Sequence[str] = (),
) -> str:
    """The text of a replay.

    Args:
        rows: The table's rows.
        data: What ``--json`` writes.
        per_second: Test rows that the engine answered a second.
        full: Whether to print latencies, shares and every task.
        written: The files that were written, each "name (what it is)".
        next_commands: The commands to go on with, where they are known.
    """
    chosen = data["chosen"]
    counts = ", ".join(f"{count:,} to {part}" for part, count in data["n"].items())
    parts = [
        "\n".join(verdict(data)),
        f"{render(rows, chosen['tiers'], full=full)}\nrows: {counts}; all figures are of the test rows",
    ]
    if data.get("menu"):
        parts.append(in_words(data["menu"], data["promise"]["delta"], data["promise"]["value"]))
    if len(data["by_task"]) > 1:
        parts.append(tasks(data["by_task"], full=full))
    if data.get("cofailure"):
        parts.append(ceilings(data["cofailure"]))
    parts.append(_cascade(chosen))
    of_baselines = {f"{row.name}: {row.note}" for row in rows}
    notes = [note for note in data["notes"] if full or note not in of_baselines]
    if notes:
        parts.append("\n".join(fill(f"note: {note}", WIDTH, subsequent_indent="      ") for note in notes))
    parts.append(
        "\n".join([*(f"written: {name}" for name in written), *next_steps(data, written, next_commands, full=full)])
    )
    return "\n\n".join(parts) + f"\n{per_second:,.0f} rows/s through the engine"


def verdict(data: Mapping[str, Any]) -> list[str]:
    """Three lines: what the cascade saves, what it loses, what is proved."""
    chosen, certificate = data["chosen"], data["certificate"]
    premium = data["tiers"][-1]
    mark = "CERTIFIED" if certificate["certified"] else "NOT CERTIFIED"
    lines = [_saves(chosen, premium), _loses(chosen, premium, data["test"]["n"]), f"proof  {mark}: {certificate['words']}"]
    return [fill(line, WIDTH, subsequent_indent=" " * 7, break_long_words=False) for line in lines]


def _saves(chosen: Mapping[str, Any], premium: str) -> str:
    if chosen["tiers"] == [premium]:
        return f"saves  nothing: {premium} answers every prompt"
    ratio, usd, premium_usd = chosen["cost_ratio"], chosen["usd_per_1000"], chosen["premium_usd_per_1000"]
    if ratio is None:
        return "saves  unknown: a cost is unknown, or the premium tier is free"
    change = (
        f"{100 * (1 - ratio):.0f} % of the cost of {premium}" if ratio <= 1 else f"nothing: {100 * ratio:.0f} % of its cost"
    )
    text = f"saves  {change}: ${usd:.4g} instead of ${premium_usd:.4g} per 1,000 prompts"
    if chosen.get("usd_a_month") is not None:
        saved = chosen["premium_usd_a_month"] - chosen["usd_a_month"]
        text += f", ${saved:,.2f} a month"
    judging = chosen["judging_usd_per_1000"]
    return text + (f"; of it ${judging:.4g} pays for judging" if judging is not None and judging > 0 else "")


def _loses(chosen: Mapping[str, Any], premium: str, n: int) -> str:
    if chosen["tiers"] == [premium]:
        return "loses  nothing"
    loss, (low, high) = -chosen["quality_difference"], (-chosen["interval"][1], -chosen["interval"][0])
    return (
        f"loses  {100 * loss:z.1f} points of quality against {premium} "
        f"(95 % interval {100 * low:z.1f} to {100 * high:z.1f}), on {n:,} test rows"
    )


def tasks(entries: Sequence[Mapping[str, Any]], *, full: bool = False) -> str:
    """The tasks as a table, the largest losses first."""
    ordered = sorted(entries, key=lambda entry: entry["difference"])
    rows = ordered if full else ordered[:MOST_TASKS]
    lines = [f"{'task':<22} {'rows':>5}  {'loss':>5}  {'corrected 95 %':>15}  {'cost':>6}  advice"]
    for entry in rows:
        low, high = (-100 * end for end in reversed(entry["corrected_interval"]))
        cost = "—" if entry["cost_ratio"] is None else f"{100 * entry['cost_ratio']:.0f} %"
        lines.append(
            f"{clip(str(entry['task']), 22):<22} {entry['n']:>5,}  {-100 * entry['difference']:>z5.1f}  "
            f"{f'{low:z.1f} to {high:z.1f}':>15}  {cost:>6}  {entry['advice']}"
        )
    hidden = len(ordered) - len(rows)
    lines.append(
        "loss in points; with 95 % confidence all intervals hold at once (Bonferroni)"
        + (f"; {hidden} more tasks with --full" if hidden else "")
    )
    return "\n".join(lines if full else [line[:WIDTH] for line in lines])


_FINAL = {
    "last": "the last tier's answer",
    "best": "the most confident answer",
    "vote": "the answer that wins the vote of all tiers",
}


def _cascade(chosen: Mapping[str, Any]) -> str:
    final = _FINAL[chosen["final"]]
    lines = [f"cascade (where no tier accepts, {final} is returned):"]
    thresholds = [*chosen["thresholds"], chosen["last_at"]]
    for tier, at in zip(chosen["tiers"], thresholds, strict=True):
        judges = ", ".join(chosen["judges"][tier]) or "none"
        skip_below = chosen.get("skip_below", {}).get(tier)
        if skip_below is None:
            skip = ""
        else:
            share = 100 * chosen["skipped"][tier]
            skip = f"not asked where the prompt gives it less than {skip_below:.4g} ({share:.0f} % of the test rows); "
        if tier == chosen["tiers"][0] and "speculation" in chosen:
            below = chosen["speculation"]["speculate_below"]
            where = "" if below >= 1 else f" where the prompt gives it less than {below:.4g}"
            skip += f"asks the next tier at once{where}; "
        words = f"{tier}: {skip}accept from confidence {at:.4g}; judges: {judges}"
        lines.append(fill(words, WIDTH, initial_indent="  ", subsequent_indent=" " * 6, break_long_words=False))
        by_task = chosen.get("by_task", {}).get(tier, {}) if tier != chosen["tiers"][-1] else {}
        if by_task:
            values = ", ".join(f"{task} {at if isinstance(at, str) else format(at, '.4g')}" for task, at in by_task.items())
            lines.append(fill(f"by task: {values}", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8))
    lines += [fill(line, WIDTH, subsequent_indent="  ") for line in _latency(chosen)]
    return "\n".join(lines)


def _latency(chosen: Mapping[str, Any]) -> list[str]:
    """What was predicted and measured of the latency, where it was asked for."""
    if "latency" not in chosen:
        return []
    latency, lines = chosen["latency"], list[str]()
    allowed = "" if latency["max_s"] is None else f", {latency['max_s']:g} s are allowed"
    lines.append(
        f"latency: 95 % of the runs take up to {_seconds(latency['p95_s'])} "
        f"(predicted {_seconds(latency['predicted_p95_s'])}{allowed})"
    )
    if "speculation" in chosen:
        predicted, measured = chosen["speculation"]["predicted"], chosen["speculation"]["measured"]
        lines.append(
            f"escalated runs: {_seconds(measured['p95_s'])} instead of {_seconds(measured['serial_p95_s'])} one after the "
            f"other (predicted {_seconds(predicted['p95_s'])}), at {100 * measured['extra_cost']:.1f} % more cost "
            f"(predicted {100 * predicted['extra_cost']:.1f} %)"
        )
    return lines


def _seconds(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else f"{seconds:.3g} s"


def next_steps(
    data: Mapping[str, Any], written: Sequence[str], next_commands: Sequence[str] = (), *, full: bool
) -> list[str]:
    """The next steps."""
    steps = []
    if next_commands:
        steps += ["next:", *(f"  {command}" for command in next_commands)]
    elif any("calibration" in name for name in written):
        steps.append("next: name the calibration in your policy file (calibration: FILE), then `python -m cascade check`")
    elif data["certificate"]["certified"] and len(data["chosen"]["tiers"]) > 1 and "policy_file" not in data:
        steps.append("next: add --out calibration.json to keep these thresholds, --report report.html to read the mistakes")
    if not full:
        steps.append("more: --full adds latencies, shares of answers, notes on the baselines and all tasks")
    return steps
