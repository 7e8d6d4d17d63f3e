"""The parts of the report that are read closely: the tables, the calibration of each tier, the mistakes.

Each is a pure function from the findings to markup, empty where its part is missing. ``evals.report`` describes the
findings.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import charts
from .markup import DASH, clip, element, number, percent, plain, points, share, span, text, usd, whole
from .tables import table

LONGEST = 20_000  # characters of a prompt or an answer that the page carries; the rest is counted
Findings = Mapping[str, Any]

_METRICS = {
    "brier": ("Brier score", "lower better"),
    "log_loss": ("Log loss", "lower better"),
    "ece": ("ECE", "lower better"),
    "auroc": ("AUROC", "higher better"),
    "aurc": ("AURC", "lower better"),
}


def lines(findings: Findings) -> str:
    """The table of all ways of answering; those that beat the cascade stay in it."""
    table_lines = findings["lines"]
    tiers = _tiers(findings, table_lines)
    heads = [
        "",
        "quality",
        "difference",
        "95 % interval",
        "USD / 1,000",
        "cost",
        "mean s",
        "p95 s",
        *(f"by {clip(t, 18)}" for t in tiers),
    ]
    rows = []
    for line in table_lines:
        kind = str(line.get("kind") or "")
        name = element(
            "th",
            element("span", text(line["name"]), title=line["name"])
            + (element("small", text(kind)) if kind != line["name"] else ""),
            scope="row",
        )
        cells = [
            percent(line.get("quality")),
            points(line.get("difference")),
            span(line.get("interval")) or DASH,
            usd(line.get("usd_per_1000")),
            share(line.get("relative_cost")),
            plain(line.get("mean_s"), 2),
            plain(line.get("p95_s"), 2),
            *_share_cells(line, tiers),
        ]
        rows.append(
            element(
                "tr",
                name + "".join(element("td", c, data_label=h) for h, c in zip(heads[1:], cells, strict=True)),
                class_="cascade" if kind == "cascade" else None,
            )
        )
    lead = "Differences are in points of quality against the premium tier. Every line is measured on the same test prompts."
    return element("p", lead, class_="soft") + table(heads, rows, "Quality, cost and time of every way of answering", "fold")


def calibration(findings: Findings) -> str:
    """A card a tier: reliability before and after, the histogram of confidences, the metrics with their intervals."""
    cards = [_calibrated(i, card) for i, card in enumerate(findings.get("calibration") or [])]
    lead = "Of the answers with 80 % confidence 80 % should be right: points on the diagonal. A bar is a bin's interval."
    return element("p", lead, class_="soft") + "".join(cards) if cards else ""


def by_task(findings: Findings) -> str:
    """The table by task, the largest losses first; its columns sort where scripts run."""
    task_lines = findings.get("by_task") or []
    if not task_lines:
        return ""
    tiers = _tiers(findings, task_lines)
    ordered = sorted(task_lines, key=lambda f: (number(f.get("difference")) is None, number(f.get("difference")) or 0.0))
    ends = [number(end) for f in task_lines for end in (f.get("difference"), *_task_interval(f))]
    reach = max((abs(end) for end in ends if end is not None), default=0.0) or 0.01
    advised = any(f.get("advice") for f in task_lines)
    heads = [
        "task",
        "n",
        "quality",
        "premium",
        "difference",
        "",
        "95 % interval",
        "cost",
        *(f"by {clip(t, 18)}" for t in tiers),
        *(["advice"] if advised else []),
    ]
    rows = []
    for task in ordered:
        difference = number(task.get("difference"))
        low, high = (number(end) for end in _task_interval(task) or (None, None))
        chart = charts.forest(difference, low, high, reach) if difference is not None else ""
        values = [
            (whole(task.get("n")), task.get("n")),
            (percent(task.get("quality")), task.get("quality")),
            (percent(task.get("premium_quality")), task.get("premium_quality")),
            (points(difference), difference),
            (chart, None),
            (span(_task_interval(task)) or DASH, low),
            (share(task.get("cost_ratio")), task.get("cost_ratio")),
        ]
        cells = [
            element("td", text, data_value=_sortable(value), data_label=head or None)
            for head, (text, value) in zip(heads[1:], values, strict=False)
        ]
        shares = task.get("shares") or {}
        cells += [
            element("td", cell, data_value=_sortable(shares.get(t)), data_label=f"by {clip(t, 18)}")
            for cell, t in zip(_share_cells(task, tiers), tiers, strict=True)
        ]
        if advised:
            cells.append(element("td", text(task.get("advice") or DASH), data_label="advice"))
        name = element("th", element("span", text(task.get("task")), title=task.get("task")), scope="row")
        rows.append(element("tr", name + "".join(cells)))
    lead = "The largest losses first. "
    if any(f.get("corrected_interval") for f in task_lines):
        lead += (
            "The intervals allow for looking at many tasks (Bonferroni): with 95 % confidence all hold. The advice "
            "comes from the test rows; confirm it on others."
        )
    else:
        lead += "Few rows make wide intervals; among many tasks some look bad by chance."
    return element("p", lead, class_="soft") + table(
        heads, rows, "Quality and cost by task", "sortable fold", len(task_lines) > 14
    )


def _task_interval(task: Findings) -> Sequence[Any]:
    """The interval of a task's difference: the one corrected for many tasks where it is known."""
    return task.get("corrected_interval") or task.get("interval") or ()


def mistakes(findings: Findings) -> str:
    """Wrong answers that were accepted, to be read; closed until opened."""
    if "mistakes" not in findings or findings["mistakes"] is None:
        return ""
    entries = findings["mistakes"]
    if not entries:
        return element("p", "No accepted answer of the test rows was wrong.", class_="soft")
    lead = "Wrong answers that were accepted with the highest confidence. Open one to read it."
    return element("p", lead, class_="soft") + _filter(entries) + "".join(_mistake(one) for one in entries)


def _filter(entries: Sequence[Findings]) -> str:
    """A choice of the task whose mistakes are shown; hidden where scripts do not run, empty where there is one task."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[str(entry.get("task") or DASH)] = counts.get(str(entry.get("task") or DASH), 0) + 1
    if len(counts) < 2:
        return ""
    options = element("option", text(f"all tasks ({len(entries)})"), value="")
    options += "".join(element("option", text(f"{task} ({n})"), value=task) for task, n in sorted(counts.items()))
    return element("label", "task " + element("select", options, id="mistakes-task"), class_="filter soft", hidden="hidden")


def _calibrated(index: int, card: Findings) -> str:
    """The card of one tier."""
    reliability, panels = card.get("reliability") or {}, []
    for when, title in (("before", "Before calibration"), ("after", "After calibration")):
        bins = reliability.get(when)
        if bins:
            chart = charts.reliability(f"reliability-{index}-{when}", f"{title}: share right over confidence", bins)
            panels.append(element("div", element("h4", f"{title}: share right") + chart, class_=when))
    histogram = card.get("histogram")
    if histogram:
        chart = charts.histogram(
            f"histogram-{index}", "Right and wrong answers", histogram["edges"], histogram["right"], histogram["wrong"]
        )
        counted = (
            f"Answers by confidence: {element('b', 'right', class_='good')} up, {element('b', 'wrong', class_='bad')} down"
        )
        panels.append(element("div", element("h4", counted) + chart))
    judges = ", ".join(map(str, card.get("judges") or []))
    facts = [
        f"judged by {judges}" if judges else "",
        "not calibrated, which did not clearly help" if card.get("method") == "raw" else str(card.get("method") or ""),
        f"{whole(card['n'])} answers" if card.get("n") is not None else "",
    ]
    summary = element("p", text(" · ".join(fact for fact in facts if fact)), class_="soft small")
    title = element("h3", text(card.get("tier")))
    return element("div", title + summary + element("div", "".join(panels), class_="panels") + _metrics(card), class_="card")


def _metrics(card: Findings) -> str:
    """The figures before and after, each with its interval."""
    before, after = card.get("before") or {}, card.get("after") or {}
    names = [name for name in _METRICS if name in before or name in after]
    names += [name for name in dict.fromkeys([*before, *after]) if name not in _METRICS]
    if not names:
        return ""
    titles = [_METRICS.get(name, (name, "")) for name in names]
    heads = ["", *(f"{title} ({better})" if better else title for title, better in titles)]
    rows = []
    for title, side in (("before", before), ("after", after)):
        cells = "".join(
            element("td", _estimate(side.get(name)), data_label=label)
            for name, (label, _) in zip(names, titles, strict=True)
        )
        rows.append(element("tr", element("th", title, scope="row") + cells))
    return table(heads, rows, "Figures of the calibration", "fold single")


def _estimate(estimate: Any) -> str:
    """A value with its interval; the value alone where none is known."""
    if estimate is None:
        return DASH
    value, *interval = estimate if isinstance(estimate, Sequence) else (estimate,)
    small = (
        element("br", None) + element("small", f"{plain(interval[0], 3)} to {plain(interval[1], 3)}")
        if len(interval) == 2
        else ""
    )
    return plain(value, 3) + small


def _mistake(mistake: Findings) -> str:
    """One mistake: its line, then its texts when opened."""
    head = element("b", percent(mistake.get("confidence"), 0))
    where = " · ".join(
        str(part) for part in (mistake.get("tier"), mistake.get("task"), mistake.get("id")) if part is not None
    )
    head += element("span", text(where), class_="soft small") + element(
        "span", text(clip(mistake.get("prompt"), 160)), class_="begins"
    )
    quality = f" (quality {percent(mistake['premium_quality'], 0)})" if mistake.get("premium_quality") is not None else ""
    texts = [("Prompt", "prompt", "full"), (f"Accepted answer of {mistake.get('tier')}", "answer", None)]
    texts += [(f"Answer of the premium{quality}", "premium_answer", None), ("Reference", "reference", "full")]
    body = "".join(
        element("div", element("h4", text(title)) + _long(mistake[key]), class_=class_)
        for title, key, class_ in texts
        if mistake.get(key) is not None
    )
    return element(
        "details",
        element("summary", head) + element("div", body, class_="texts"),
        data_task=str(mistake.get("task") or DASH),
    )


def _long(value: Any) -> str:
    """A text of any length in a box that scrolls."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    cut = f"\n… {whole(len(words) - LONGEST)} more characters" if len(words) > LONGEST else ""
    return element("pre", text(words[:LONGEST] + cut), dir="auto", tabindex="0")


def _tiers(findings: Findings, table_lines: Sequence[Findings]) -> list[str]:
    """The tiers that may answer: those of the ladder, then any other that a line names."""
    named = [str(tier) for tier in findings.get("tiers") or ()]
    return list(dict.fromkeys([*named, *(str(tier) for line in table_lines for tier in line.get("shares") or {})]))


def _share_cells(line: Findings, tiers: Sequence[str]) -> list[str]:
    """The share that each tier answered; a tier that the line does not name answered nothing there."""
    shares = line.get("shares")
    return [DASH if not shares or tier not in shares else share(shares[tier]) for tier in tiers]


def _sortable(value: Any) -> str:
    """A number for sorting, in full; empty where it is unknown."""
    figure = number(value)
    return "" if figure is None else repr(figure)
