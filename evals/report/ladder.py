"""The chosen ladder: its tiers with their judges, and when each passes a prompt on, by task where tasks differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from .markup import DASH, element, number, percent, text
from .tables import table

Findings = Mapping[str, Any]


def ladder(chosen: Findings) -> str:
    """The chosen tiers with their judges, and the thresholds between them."""
    tiers, thresholds, judges = chosen.get("tiers") or [], chosen.get("thresholds") or [], chosen.get("judges") or {}
    rungs = []
    for i, tier in enumerate(tiers):
        names = judges.get(tier) or []
        last = i == len(tiers) - 1
        judged = ("judged by " + ", ".join(map(str, names))) if names else "not judged"
        rung = element("b", text(tier)) + element("span", text(judged), class_="soft small") + _not_asked(chosen, str(tier))
        arrow = "" if last else element("span", _passed_on(thresholds[i] if i < len(thresholds) else None), class_="arrow")
        rungs.append(element("li", element("div", rung, class_="rung") + arrow))
    final = {
        "best": "Where no tier is accepted the best answer so far is returned.",
        "last": "The last tier's answer is returned.",
        "vote": "Where no tier is accepted the tiers vote on the answer.",
    }
    words = final.get(str(chosen.get("final")), "")
    if by_task := _thresholds_by_task(chosen, [str(tier) for tier in tiers[:-1]]):
        arrows = "The thresholds shown are for tasks that were not recorded; each task has its own:"
        return (
            element("ol", "".join(rungs), class_="ladder", aria_label="The chosen ladder")
            + element("p", f"{words} {arrows}".strip(), class_="soft small")
            + by_task
        )
    return element("ol", "".join(rungs), class_="ladder", aria_label="The chosen ladder") + (
        element("p", words, class_="soft small") if words and len(tiers) > 1 else ""
    )


def _thresholds_by_task(chosen: Findings, tiers: Sequence[str]) -> str:
    """A table of when each tier passes on a prompt of each task; empty without thresholds by task."""
    by_tier = chosen.get("by_task") or {}
    tiers = [tier for tier in tiers if by_tier.get(tier)]
    tasks = sorted({task for tier in tiers for task in by_tier[tier]})
    rows = []
    for task in tasks:
        cells = []
        for tier in tiers:
            at = by_tier[tier].get(task)
            words = DASH if at is None else "not asked" if at == "skip" else f"passed on {_passed_on(at)}"
            cells.append(element("td", text(words), data_label=tier))
        name = element("th", element("span", text(task), title=task), scope="row")
        rows.append(element("tr", name + "".join(cells)))
    return table(["task", *tiers], rows, "Thresholds by task", "fold compact", len(tasks) > 14) if rows else ""


def _not_asked(chosen: Findings, tier: str) -> str:
    """Which prompts the tier is not asked for; empty where it is asked for all that come to it."""
    skip_below = number((chosen.get("skip_below") or {}).get(tier))
    if skip_below is None:
        return ""
    words, share = (
        f"not asked where the prompt gives it less than {percent(skip_below)}",
        (chosen.get("skipped") or {}).get(tier),
    )
    if number(share) is not None:
        words += f": {percent(share)} of the test prompts"
    return element("span", text(words), class_="soft small skip")


def _passed_on(value: Any) -> str:
    """When a tier passes a prompt on; a threshold of 0 accepts all that is not vetoed, one above 1 accepts nothing."""
    figure = number(value)
    if figure == 0:
        return "where vetoed"
    return "always" if figure is not None and figure > 1 else f"below {percent(figure)}"
