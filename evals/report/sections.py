"""The sections of the report, each a pure function from the findings to markup; empty where its part is missing.

``evals.report`` describes the findings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from . import charts
from .glossary import with_abbreviations
from .ladder import ladder
from .markup import DASH, element, number, percent, plain, points, share, span, text, usd, whole
from .sankey import sankey

Findings = Mapping[str, Any]


def header(findings: Findings) -> str:
    """The promise, whether it is certified, and its cost in one sentence; then the figures and the ladder."""
    chosen, recording = findings["chosen"], findings.get("recording") or {}
    status, badge, class_ = _status(findings)
    eyebrow = [element("span", text(badge), class_=f"badge {class_}")]
    eyebrow += [element("span", text(word)) for word in (recording.get("name"), findings.get("created")) if word]
    n = findings.get("n") or {}
    interval = span(chosen.get("interval"))
    thousand = f"{usd(chosen.get('usd_per_1000'))} per 1,000 prompts"
    interval = f"95 % interval {interval}" if interval else "interval unknown"
    accent = "first" if class_ == "certified" else ""
    tiles = [
        _tile("share of the premium's cost", share(chosen.get("cost_ratio")), "", thousand, accent),
        _tile("quality against the premium", points(chosen.get("quality_difference")), "points", interval),
        _tile("quality", percent(chosen.get("quality")), "", "mean over the test rows"),
    ]
    if n:
        split = "test" if "test" in n else next(iter(n))
        others = " · ".join(f"{whole(count)} {name}" for name, count in n.items() if name != split)
        tiles.append(_tile(f"{split} rows", whole(n[split]), "", others or "measured once"))
    return element(
        "header",
        element("div", "".join(eyebrow), class_="eyebrow")
        + element("h1", text(status))
        + element("dl", "".join(tiles), class_="figures")
        + ladder(chosen),
    )


def certificate(findings: Findings) -> str:
    """The certificate in plain words; a refused one says so and how many rows would be needed."""
    proof = findings.get("certificate")
    if proof is None:
        return ""
    refused = proof.get("certified") is not True
    parts = []
    if refused:
        in_all = number(proof.get("rows_in_all"))
        needed = number(proof.get("needed_n"))
        parts.append(element("h3", "✕ Refused: the promise could not be certified"))
        promises = (
            f"About {whole(needed)} graded rows would be needed"
            if needed is not None
            else "How many graded rows would be needed is unknown"
        )
        had = number(proof.get("n"))
        if in_all is not None:
            promises = f"A recording of about {whole(in_all)} graded rows would be needed"
            had = number((findings.get("recording") or {}).get("n"))
        parts.append(
            element("p", text(promises + (f"; there were {whole(had)}." if had is not None else ".")), class_="words")
        )
    if proof.get("words"):
        parts.append(element("p", text(proof["words"]), class_="words"))
    facts = [("Method", text(proof["method"]))] if proof.get("method") else []
    if proof.get("n") is not None:
        facts.append(("Rows tested", whole(proof["n"])))
    if proof.get("max_loss") is not None:
        facts.append(("Largest loss allowed", f"{_in_points(proof['max_loss'])} points of quality"))
    if proof.get("p_value") is not None:
        facts.append(("p-value", _p_value(proof)))
    parts.append(_facts(facts))
    return element("div", "".join(parts), class_="certificate refused" if refused else "certificate") + _menu(findings)


def _menu(findings: Findings) -> str:
    """The promises that were tested together, one a line; empty where there was one promise."""
    lines = []
    for line in findings.get("menu") or []:
        promise = f"at most {_in_points(line.get('max_loss'))} points lost: "
        if line.get("certified"):
            tiers = " → ".join(map(str, line.get("tiers") or ()))
            words = f"proved at {share(line.get('cost_ratio'))} of the premium's cost ({tiers})"
        elif line.get("rows_in_all") is not None:
            words = f"not proved; it would take about {whole(line['rows_in_all'])} graded rows in all"
        else:
            words = "not proved; more rows like these would not help"
        lines.append(element("li", text(promise + words)))
    if not lines:
        return ""
    lead = element("p", "Tested together: all lines that are proved hold at once.", class_="soft")
    return lead + element("ul", "".join(lines), class_="notes")


def frontier(findings: Findings) -> str:
    """The chart of quality over cost, wide and narrow, with its key."""
    marks = charts.dots(findings["lines"], findings["chosen"])
    curve, (floor, words) = findings.get("frontier") or [], _floor(findings)
    wide = charts.frontier("frontier-wide", marks, curve, floor)
    if not wide:
        return ""
    dashed = element("line", None, x1=1, x2=25, y1=13, y2=13, class_="floor")
    promised = [element("svg", dashed, viewBox="0 0 26 26", aria_hidden="true") + text(words)] if floor is not None else []
    small = charts.frontier("frontier-narrow", marks, curve, floor, narrow=True)
    kinds = {
        "cascade": "the chosen cascade",
        "tier": "one tier alone",
        "baseline": "baseline",
        "oracle": "oracle, not reachable",
    }
    mark_kinds = {mark.kind if mark.kind in kinds else "baseline" for mark in marks}
    signs = [_sign(kind) + text(meaning) for kind, meaning in kinds.items() if kind in mark_kinds]
    numbered = [
        element("b", str(i)) + _sign(mark.kind) + text(f"{mark.name} ({share(mark.cost)} of the cost)")
        for i, mark in enumerate(marks, 1)
    ]
    hidden = [str(line["name"]) for line in findings["lines"] if str(line["name"]) not in {mark.name for mark in marks}]
    lead = "Up and left is better. " + (
        "The line joins the best reachable points over all ladders and thresholds." if curve else ""
    )
    return element("p", text(lead), class_="soft") + element(
        "div",
        element("div", wide + _key(signs + promised), class_="wide")
        + element("div", small + _key(numbered + promised), class_="narrow")
        + (
            element("p", text(f"Cost or quality unknown, not drawn: {', '.join(hidden)}."), class_="soft small")
            if hidden
            else ""
        ),
        class_="card",
    )


def flow(findings: Findings) -> str:
    """The Sankey drawing, wide and narrow."""
    flow_data = findings.get("flow") or []
    wide = sankey("flow-wide", flow_data)
    if not wide:
        return ""
    small = element("div", sankey("flow-narrow", flow_data, narrow=True), class_="narrow")
    lead = "How many of the test prompts each tier answered, and how many it passed on."
    if any(str(link.get("target", "")).startswith("not asked: ") for link in flow_data):
        lead += " A tier is not asked where the prompt alone says that it would be wrong; that costs nothing."
    return element("p", lead, class_="soft") + element("div", element("div", wide, class_="wide") + small, class_="card")


def notes(findings: Findings) -> str:
    """The notes as a list."""
    entries = findings.get("notes") or []
    return (
        element("ul", "".join(element("li", with_abbreviations(str(note))) for note in entries), class_="notes")
        if entries
        else ""
    )


def reproduce(findings: Findings) -> str:
    """Recording, digest, seed and splits: what another run needs to give the same figures."""
    recording, facts = findings.get("recording") or {}, []
    if recording.get("name"):
        facts.append(("Recording", text(recording["name"])))
    if recording.get("sha256"):
        facts.append(("SHA-256", element("code", text(recording["sha256"]))))
    if recording.get("n") is not None:
        facts.append(("Rows", whole(recording["n"])))
    if recording.get("left_out"):
        reasons = [f"{whole(n)} {reason}" for reason, n in recording["left_out"].items() if n]
        facts.append(("Left out", text(", ".join(reasons) or "none")))
    if findings.get("n"):
        facts.append(("Splits", text(", ".join(f"{name} {whole(n)}" for name, n in findings["n"].items()))))
    if findings.get("seed") is not None:
        facts.append(("Seed", text(findings["seed"])))
    if findings.get("created"):
        facts.append(("Created", text(findings["created"])))
    return _facts(facts)


def _status(findings: Findings) -> tuple[str, str, str]:
    """The sentence, the badge's words and its class."""
    chosen, promise, proof = findings["chosen"], findings.get("promise"), findings.get("certificate")
    ladder, cost = " → ".join(map(str, chosen.get("tiers") or ["?"])), share(chosen.get("cost_ratio"))
    costs = f"costs {cost} of what the premium does" if cost != DASH else "has an unknown cost"
    if proof is None:
        untested = f" Promised, but not tested: {_clause(findings)}." if promise else ""
        return f"{ladder} {costs}.{untested}", "No certificate", "unknown"
    clause = _clause(findings) if promise else "its promise is kept"
    if proof.get("certified") is True:
        sure = number((promise or proof).get("delta"))
        surely = f"With {percent(1 - sure, 0)} confidence" if sure is not None else "It is certified that"
        return f"{surely} {clause}; it {costs}.", "✓ Certified", "certified"
    return f"Not certified: that {clause} could not be shown. It {costs}.", "✕ Not certified", "refused"


def _clause(findings: Findings) -> str:
    """The promise as a clause about "the cascade"."""
    promise = findings["promise"]
    kind, value = promise.get("kind"), promise.get("value")
    if kind == "max_loss":
        return f"the cascade loses at most {_in_points(value)} points of quality against {_premium(findings)}"
    if kind == "min_quality":
        return f"the cascade reaches a quality of at least {percent(value)}"
    if kind == "budget":
        return f"the cascade costs at most {usd(value)} per 1,000 prompts"
    if kind == "selective":
        return f"at most {percent(value)} of the answers that the cascade accepts are wrong"
    return f"the cascade keeps the promise {kind} {value}"


def _floor(findings: Findings) -> tuple[float | None, str]:
    """The promised quality on the chart: the premium's less the largest loss, or the least quality."""
    promise = findings.get("promise") or {}
    value = number(promise.get("value"))
    if value is None:
        return None, ""
    if promise.get("kind") == "min_quality":
        return value, f"promised: at least {percent(value)}"
    alone = [line for line in findings["lines"] if line.get("kind") == "tier" and line["name"] == _premium(findings)]
    quality = number(alone[0].get("quality")) if alone else None
    if promise.get("kind") != "max_loss" or quality is None:
        return None, ""
    return quality - value, f"promised: at most {_in_points(value)} points below the premium"


def _premium(findings: Findings) -> str:
    tiers = findings.get("tiers") or findings["chosen"].get("tiers") or ["the premium"]
    return str(tiers[-1])


def _tile(name: str, big: str, unit: str, small: str, class_: str = "") -> str:
    """One large figure with what it means."""
    unit = element("span", f" {unit}", class_="unit") if unit and big != DASH else ""
    figure = element("dd", text(big) + unit, class_=f"big {class_}".rstrip())
    return element("div", element("dt", text(name)) + figure + element("dd", text(small), class_="soft small"))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """Names with their values; the values are markup."""
    return (
        element("dl", "".join(element("dt", with_abbreviations(k)) + element("dd", v) for k, v in facts), class_="facts")
        if facts
        else ""
    )


def _key(entries: Sequence[str]) -> str:
    return element("ul", "".join(element("li", entry) for entry in entries), class_="key")


def _sign(kind: str) -> str:
    """A mark of the chart, for its key."""
    return element("svg", charts.mark(kind, 13, 13, kind), viewBox="0 0 26 26", aria_hidden="true")


def _p_value(proof: Findings) -> str:
    """The p-value with the error probability that it must not exceed."""
    figure = number(proof.get("p_value"))
    text = "below 0.001" if figure is not None and figure < 0.001 else plain(figure, 3)
    return text if proof.get("delta") is None else f"{text} (must not exceed {plain(proof['delta'], 3)})"


def _in_points(value: Any) -> str:
    """A size in percentage points, without a sign."""
    figure = number(value)
    return DASH if figure is None else plain(100 * figure, 1)
