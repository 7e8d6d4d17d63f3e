"""The audit as one HTML page that needs nothing else: light and dark, for a desk and a phone."""

from collections.abc import Sequence

from cascade.promise.states import PromiseState
from evals.report.markup import clip, element, percent, points, text, usd, whole

from .period import Audit, day_text
from .quality import PolicyQuality
from .traffic import Group

_TITLES = {"policy": "By policy", "task": "By task", "key": "By key", "tier": "By tier of the answer", "day": "By day (UTC)"}
_COLOURS = {
    PromiseState.HOLDS: "good",
    PromiseState.NOT_ENOUGH: "unknown",
    PromiseState.IN_DOUBT: "warn",
    PromiseState.BROKEN: "bad",
}
_CHARACTERS = 400
_STYLE = """
:root{color-scheme:light dark;--ground:#fcfcfb;--ink:#1d1d1b;--soft:#6a6a66;--line:#dcdcd8;--panel:#f3f3f0;--bar:#3b6ea8;
--good:#2c7a3f;--warn:#a86a00;--bad:#b3261e;--unknown:#6a6a66}
@media(prefers-color-scheme:dark){:root{--ground:#161614;--ink:#ecece8;--soft:#a2a29c;--line:#3a3a36;--panel:#20201d;--bar:#7fb0e6;
--good:#6cc383;--warn:#e0a848;--bad:#f2827b;--unknown:#a2a29c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem 4rem;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}p{margin:.4rem 0}
.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1.2rem 0}
.card{background:var(--panel);border-radius:.5rem;padding:.7rem .9rem}.card b{display:block;font-size:1.4rem;font-weight:600}
.state{border-left:.3rem solid;padding:.4rem .8rem;margin:.5rem 0;background:var(--panel)}.good{border-color:var(--good)}
.warn{border-color:var(--warn)}.bad{border-color:var(--bad)}.unknown{border-color:var(--unknown)}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.3rem .6rem;text-align:right;
border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--soft);font-weight:500;font-size:.85rem}
th:first-child,td:first-child{text-align:left}td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:8rem}
td:nth-child(3){text-align:left}.bar{display:inline-block;height:.6rem;background:var(--bar);border-radius:2px}
pre{background:var(--panel);padding:.6rem .8rem;border-radius:.4rem;overflow-x:auto;font-size:.85rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:.7rem;margin:.4rem 0 1.2rem}
.pair div{background:var(--panel);border-radius:.4rem;padding:.5rem .8rem;overflow-wrap:anywhere;white-space:pre-wrap}
@media(max-width:40rem){td:nth-child(3),th:nth-child(3){display:none}th,td{padding:.3rem .35rem}pre{white-space:pre-wrap}}
"""


def page(result: Audit) -> str:
    """The whole page."""
    parts = [
        element("h1", "Audit"),
        element("p", text(f"{day_text(result.since)} to {day_text(result.until)} UTC"), class_="soft"),
        *_promises(result),
        _cards(result),
        *_changes(result),
        *(part for name, quality in result.qualities.items() for part in _quality(name, quality)),
        *(part for name, title in _TITLES.items() for part in _table(title, result.now.groups[name], name == "day")),
        element("h2", "How to read this"),
        element(
            "p",
            "Savings count runs that returned an accepted answer, or the last tier's, and whose costs are known; "
            "what premium would have cost was measured where a run was shadowed, and is estimated elsewhere. "
            "Losses are premium's quality less that of the answer returned, by the labels of sampled runs, "
            "weighted for all runs; their intervals hold at every look, if the mean did not change in the period. "
            "Sampled runs without a label are taken to be missing at random.",
            class_="soft",
        ),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Audit</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _promises(result: Audit) -> list[str]:
    return [
        element("p", f"<strong>{text(name)}</strong>: {text(words)}", class_=f"state {_COLOURS[result.states[name]]}")
        for name, words in result.promises.items()
    ] + [element("p", f"<strong>{text(name)}</strong>: {text(words)}") for name, words in result.prompt_lines.items()]


def _cards(result: Audit) -> str:
    total, before = result.now.total, result.before.total
    saved = usd(total.saved_usd) if total.compared else "–"
    limits = total.saved_interval
    span = "" if limits is None else f"95 %: {usd(limits[0])} to {usd(limits[1])}; "
    share = percent(total.saved_usd / total.premium_usd, 0) if total.premium_usd else "unknown"
    cards = [
        ("Runs", whole(total.runs), f"{whole(before.runs)} in the period before"),
        (
            "Answered",
            _share(total.answered, total.runs),
            f"{whole(total.stopped)} stopped by a budget or cap, {whole(total.failed)} failed",
        ),
        ("Escalated", _share(total.escalated, total.runs), f"{_share(before.escalated, before.runs)} in the period before"),
        ("Spent", usd(total.usd), f"{usd(before.usd)} in the period before; {whole(total.unpriced)} runs of unknown cost"),
        (
            "Saved, estimated",
            saved,
            f"{span}{share} of premium's cost, which was measured in {_share(total.measured, total.compared)} of the runs",
        ),
    ]
    return element(
        "div",
        "".join(
            element("div", f"{text(name)}<b>{text(value)}</b>{element('span', text(note), class_='soft')}", class_="card")
            for name, value, note in cards
        ),
        class_="cards",
    )


def _changes(result: Audit) -> list[str]:
    parts = [element("h2", "What to change")]
    if not result.changes:
        return [*parts, element("p", "Nothing that this audit looks for.", class_="soft")]
    for number, change in enumerate(result.changes, 1):
        parts += [
            element("p", f"<strong>{number}. {text(change.title)}</strong>"),
            element("p", f"Price: {text(change.price)}. Effect: {text(change.effect)}."),
            element("pre", text(change.lines)),
        ]
    return parts


def _quality(name: str, quality: PolicyQuality) -> list[str]:
    loss = quality.loss()
    if loss is None and not quality.sampled and not quality.escalated:
        return []
    parts = [element("h2", f"Quality of {text(name)}")]
    if loss is not None:
        parts.append(
            element(
                "p",
                text(
                    f"Mean loss against premium {points(loss.mean)} points (95 % at every look: {points(loss.lower)} to "
                    f"{points(loss.upper)}), by {whole(loss.labels)} labels of {whole(quality.sampled)} sampled runs."
                ),
            )
        )
    elif quality.sampled:
        parts.append(
            element("p", text(f"{whole(quality.sampled)} sampled runs, none of them graded: run cascade grade-shadows."))
        )
    if quality.people is not None:
        words = quality.people.words
        parts.append(element("p", text(f"{words[0].upper()}{words[1:]}.")))
    if quality.escalated:
        parts.append(
            element(
                "p",
                text(
                    f"Useless escalations: in {whole(quality.useless)} of {whole(quality.escalated)} runs with text the "
                    f"first tier had said the same; the later tiers cost {usd(quality.useless_usd)}."
                ),
            )
        )
    if quality.measured and quality.estimated_usd:
        ratio = quality.measured_usd / quality.estimated_usd
        words = f"Premium's measured cost is {ratio:.2f} times its estimate ({whole(quality.measured)} runs)."
        parts.append(element("p", text(words)))
    for one in quality.costly:
        parts.append(
            element("p", text(f"Costly acceptance {one.run_id}: loss {one.loss:g}, confidence {one.confidence or 0.0:.3f}"))
        )
        if one.returned is not None and one.premium is not None:
            columns = (("Prompt", one.prompt), ("Returned", one.returned), ("Premium", one.premium))
            parts.append(
                element(
                    "div",
                    "".join(
                        element("div", f"{element('span', title, class_='soft')}\n{text(clip(value, _CHARACTERS))}")
                        for title, value in columns
                    ),
                    class_="pair",
                )
            )
    return parts


def _table(title: str, groups: dict[str, Group], by_day: bool) -> list[str]:
    if not groups or (len(groups) == 1 and next(iter(groups)).startswith("(")):
        return []
    order = sorted(groups.items()) if by_day else sorted(groups.items(), key=lambda item: (-item[1].runs, item[0]))
    most = max(group.runs for group in groups.values())
    head = _row("th", ["", "runs", "", "answered", "escalated", "stopped", "spent", "saved", "of premium"])
    rows = [
        _row(
            "td",
            [
                text(name),
                whole(group.runs),
                element("span", class_="bar", style=f"width:{6 * group.runs / most:.2f}rem"),
                _share(group.answered, group.runs),
                _share(group.escalated, group.runs),
                whole(group.stopped),
                usd(group.usd),
                usd(group.saved_usd) if group.compared else "–",
                percent(group.saved_usd / group.premium_usd, 0) if group.premium_usd else "–",
            ],
        )
        for name, group in order
    ]
    return [element("h2", text(title)), element("div", element("table", head + "".join(rows)), class_="scroll")]


def _row(kind: str, cells: Sequence[str]) -> str:
    return element("tr", "".join(element(kind, cell) for cell in cells))


def _share(part: int, whole_count: int) -> str:
    return percent(part / whole_count, 0) if whole_count else "–"
