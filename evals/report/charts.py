"""The charts of the report as SVG text: quality over cost, reliability, histograms, intervals. Colours come from the page.

A coordinate is in pixels of the drawing's own width; charts that carry many words are drawn once wide and once narrow, so
that letters keep their size on a phone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .labels import Label, place
from .markup import clip, element, number, percent, text, whole

MOST_DOTS = 80  # a longer curve is a line alone
FAR = 1.15  # a baseline that costs more than this times all else is cut off, with a mark
LOG_SPAN = 20.0  # costs that span more than this are read on a logarithmic axis


LEFT = 46.0  # pixels for the words of the upright axis of a small chart


@dataclass(frozen=True, slots=True)
class Dot:
    """A way of answering on the chart: relative cost (1.0 is the premium's), quality in [0, 1], its kind and name.

    ``beyond`` is the cost where the dot stands at the chart's edge because it is too far to the right.
    """

    name: str
    kind: str
    cost: float
    quality: float
    beyond: float | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to pixels, linearly or by logarithm. Zero has no logarithm: it is put at the axis' beginning,
    which then is not a value of its own (``low_is_zero``)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    low_is_zero: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """At most about ``count`` round values inside the axis."""
        if not self.log:
            return _round_ticks(self.low, self.high, count)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            values = [s * 10.0**d for d in decades for s in steps if self.low <= s * 10.0**d <= self.high * (1 + 1e-9)]
            if len(values) <= count:
                return values
        return values[:: -(-len(values) // count)]


def drawing(key: str, width: float, height: float, title: str, description: str, body: str) -> str:
    """An SVG image with its name and description for those who cannot see it. ``key`` must be unique in the page."""
    head = element("title", text(title), id=f"{key}-t") + element("desc", text(description), id=f"{key}-d")
    return element(
        "svg",
        head + body,
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        viewBox=f"0 0 {width:g} {height:g}",
        xmlns="http://www.w3.org/2000/svg",
    )


def write_at(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> str:
    """Words in a drawing; x is their start, middle or end by ``anchor``."""
    return element("text", text(words), x=x, y=y, text_anchor=anchor, class_=class_)


def dots(lines: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> list[Dot]:
    """The lines whose cost and quality are known, and the chosen point where no line of kind "cascade" shows it."""
    known_dots = [
        Dot(str(line["name"]), str(line.get("kind", "baseline")), cost, quality)
        for line in lines
        if (cost := number(line.get("relative_cost"))) is not None and (quality := number(line.get("quality"))) is not None
    ]
    cost, quality = number(chosen.get("cost_ratio")), number(chosen.get("quality"))
    if cost is not None and quality is not None and not any(dot.kind == "cascade" for dot in known_dots):
        known_dots.append(Dot("chosen", "cascade", cost, quality))
    return known_dots


def frontier(
    key: str,
    marks: Sequence[Dot],
    curve: Sequence[Mapping[str, Any]],
    floor: float | None = None,
    narrow: bool = False,
) -> str:
    """Quality over relative cost: the Pareto curve as steps, each way of answering as a mark, the promised quality.

    ``floor`` is drawn as a dashed line. A narrow chart numbers its marks (1 is ``marks[0]``), for a key beside it.
    Empty where neither a mark nor a point of the curve is known.
    """
    steps = [
        Dot(" → ".join(map(str, p.get("tiers") or ())), "step", c, q)
        for p in curve
        if (c := number(p.get("cost_ratio"))) is not None and (q := number(p.get("quality"))) is not None
    ]
    if not steps and not marks:
        return ""
    edge = _edge(steps, marks)
    marks = [_cut_off(dot, edge) for dot in marks]
    costs = [dot.cost for dot in (*steps, *marks)]
    qualities = [dot.quality for dot in (*steps, *marks)] + ([] if floor is None else [floor])
    width, height, left, bottom = (343.0, 380.0, 48.0, 46.0) if narrow else (1040.0, 470.0, 56.0, 52.0)
    x = _cost_axis(costs, left + 14, width - 16)
    room = 0.12 * (max(qualities) - min(qualities)) or 0.05
    y = Axis(min(qualities) - room, min(max(qualities) + room, 1.0 + room / 2), height - bottom, 30)

    parts = [_grid(x, y, left, width, height - bottom, 5 if narrow else 9)]
    parts.append(
        write_at((left + width) / 2, height - 6, "cost, premium = 100 %" + (", log scale" if x.log else ""), "middle")
    )
    if x.low_is_zero:
        parts.append(write_at(x.start, height - bottom + 17, "0", "middle", "axis"))
    parts.append(write_at(left - 38 if narrow else 10, 14, "quality", class_="axis"))
    if floor is not None:
        at = y.at(floor)
        parts.append(element("line", None, x1=left, x2=width, y1=at, y2=at, class_="floor"))
    line, covered = _curve(steps, x, y)
    parts.append(line)
    labels = [
        Label(str(i) if narrow else clip(dot.name, 34), x.at(dot.cost), y.at(dot.quality), dot.kind == "cascade")
        for i, dot in enumerate(marks, 1)
    ]
    if floor is not None:
        covered += [(left + i * 12, y.at(floor)) for i in range(int((width - left) / 12))]
    placed = place(labels, (left + 2, 18, width - 2, height - bottom - 3), covered)
    # The chosen point is drawn last, so that nothing covers it.
    order = sorted(range(len(marks)), key=lambda i: marks[i].kind == "cascade")
    parts += [spot.leader for spot in placed if spot.leader]
    for i in order:
        cost = marks[i].cost if marks[i].beyond is None else marks[i].beyond
        tooltip = f"{marks[i].name}: quality {percent(marks[i].quality)} at {percent(cost)} of the premium's cost"
        parts.append(mark(marks[i].kind, labels[i].x, labels[i].y, tooltip, beyond=marks[i].beyond is not None))
    parts += [
        write_at(spot.x, spot.y, label.words, spot.anchor, f"label {'chosen' if label.bold else marks[i].kind}")
        for i, (label, spot) in enumerate(zip(labels, placed, strict=True))
    ]
    described = "; ".join(f"{dot.name}: quality {percent(dot.quality)} at {percent(dot.cost)} of the cost" for dot in marks)
    return drawing(key, width, height, "Quality over cost", described, "".join(parts))


def _edge(steps: Sequence[Dot], marks: Sequence[Dot]) -> float:
    """The largest cost that is drawn, so that an expensive baseline does not squeeze the rest into a corner."""
    near = [dot.cost for dot in (*steps, *marks) if dot.kind != "baseline"]
    most = max(near, default=0.0)
    return FAR * most if most > 0 else math.inf


def _cut_off(dot: Dot, edge: float) -> Dot:
    """The dot; where it is outside the chart, an arrow at the edge with its cost in words."""
    if dot.kind != "baseline" or dot.cost <= edge:
        return dot
    return replace(dot, name=f"{dot.name}, {percent(dot.cost, 0)} →", cost=edge, beyond=dot.cost)


def _curve(steps: Sequence[Dot], x: Axis, y: Axis) -> tuple[str, list[tuple[float, float]]]:
    """The steps as one path with a dot each (where they are few), and points every few pixels along it."""
    if not steps:
        return "", []
    corners = [(x.at(dot.cost), y.at(dot.quality)) for dot in steps]
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{px:.1f}V{py:.1f}" for px, py in corners[1:])
    parts = [element("path", None, d=path, class_="curve")]
    if len(steps) <= MOST_DOTS:
        for dot, (px, py) in zip(steps, corners, strict=True):
            title = element("title", text(f"{dot.name}: {percent(dot.quality)} at {percent(dot.cost)} of the cost"))
            parts.append(element("circle", title, cx=px, cy=py, r=2.5, class_="step tip"))
    along = {(round(px / 6) * 6.0, round(py / 6) * 6.0) for px, py in corners}
    for (ax, ay), (bx, by) in pairwise(corners):
        along.update((round((ax + (bx - ax) * i / 12) / 6) * 6.0, round(ay / 6) * 6.0) for i in range(13))
        along.update((round(bx / 6) * 6.0, round((ay + (by - ay) * i / 4) / 6) * 6.0) for i in range(5))
    return "".join(parts), sorted(along)


def mark(kind: str, x: float, y: float, tooltip: str, *, beyond: bool = False) -> str:
    """The sign of a kind of line; shapes differ, not only colours. An arrow marks what is cut off."""
    body, class_ = (
        element("title", text(tooltip)),
        f"mark {kind if kind in {'tier', 'cascade', 'oracle'} else 'baseline'} tip",
    )
    if beyond:
        return element("path", body, d=f"M{x - 5:.1f} {y - 6:.1f}l10 6l-10 6z", class_=class_)
    if kind == "tier":
        return element("rect", body, x=x - 5, y=y - 5, width=10, height=10, class_=class_)
    if kind == "oracle":
        return element("path", body, d=f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z", class_=class_)
    ring = element("circle", None, cx=x, cy=y, r=12, class_="ring") if kind == "cascade" else ""
    return ring + element("circle", body, cx=x, cy=y, r=7 if kind == "cascade" else 5, class_=class_)


def reliability(key: str, name: str, bins: Sequence[Mapping[str, Any]]) -> str:
    """A reliability diagram: share right (with its interval) over mean confidence, a point a bin; the area shows n."""
    x, y = Axis(0, 1, LEFT, 320), Axis(0, 1, 268, 10)
    parts = [_grid(x, y, LEFT, 320, 268, 5), element("line", None, x1=LEFT, y1=268, x2=320, y2=10, class_="diagonal")]
    most = max((number(b.get("n")) or 0.0 for b in bins), default=0.0)
    for b in bins:
        confidence, correct = number(b.get("confidence")), number(b.get("correct"))
        if confidence is None or correct is None:
            continue
        low, high, n = number(b.get("low")), number(b.get("high")), number(b.get("n"))
        px = x.at(confidence)
        if low is not None and high is not None:
            parts.append(element("line", None, x1=px, x2=px, y1=y.at(low), y2=y.at(high), class_="whisker"))
        tooltip = f"confidence {percent(confidence)}, right {percent(correct)}, {whole(n)} answers"
        radius = 3 + 4 * math.sqrt(n / most) if n and most else 3.0
        parts.append(element("circle", element("title", text(tooltip)), cx=px, cy=y.at(correct), r=radius, class_="bin tip"))
    parts.append(write_at((LEFT + 320) / 2, 302, "confidence", "middle"))
    described = f"{len(bins)} bins of confidence with the share of right answers; on the diagonal both are equal."
    return drawing(key, 342, 308, name, described, "".join(parts))


def histogram(key: str, name: str, edges: Sequence[float], right: Sequence[float], wrong: Sequence[float]) -> str:
    """Counts of right answers upward and of wrong ones downward, over the confidence. ``edges`` has one value more."""
    if not (len(edges) == len(right) + 1 == len(wrong) + 1):
        raise ValueError(f"{len(edges)} edges do not fit {len(right)} and {len(wrong)} counts")
    most_right, most_wrong = max(right, default=0), max(wrong, default=0)
    x = Axis(edges[0], edges[-1], LEFT, 320)
    y = Axis(-(most_wrong or 1) * 1.1, (most_right or 1) * 1.1, 268, 10)
    zero = y.at(0)
    parts = []
    for tick in x.ticks(6):
        parts.append(write_at(x.at(tick), 284, percent(tick, 0), "middle", "axis"))
    for tick in _round_ticks(y.low, y.high, 6):
        parts.append(element("line", None, x1=LEFT, x2=320, y1=y.at(tick), y2=y.at(tick), class_="grid"))
        parts.append(write_at(LEFT - 5, y.at(tick) + 4, whole(abs(tick)), "end", "axis"))
    for i, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        start, size = x.at(edges[i]) + 0.5, max(x.at(edges[i + 1]) - x.at(edges[i]) - 1, 0.5)
        tooltip = f"{percent(edges[i], 0)} to {percent(edges[i + 1], 0)}: {whole(good)} right, {whole(bad)} wrong"
        bars = element("rect", None, x=start, y=y.at(good), width=size, height=zero - y.at(good), class_="right")
        bars += element("rect", None, x=start, y=zero, width=size, height=y.at(-bad) - zero, class_="wrong")
        parts.append(element("g", element("title", text(tooltip)) + bars, class_="tip"))
    parts.append(element("line", None, x1=LEFT, x2=320, y1=zero, y2=zero, class_="zero"))
    parts.append(write_at((LEFT + 320) / 2, 302, "confidence", "middle"))
    described = f"{whole(sum(right))} right and {whole(sum(wrong))} wrong answers by confidence."
    return drawing(key, 342, 308, name, described, "".join(parts))


def forest(value: float, low: float | None, high: float | None, reach: float) -> str:
    """A difference with its interval on an axis from ``-reach`` to ``reach``, as small as a word; decoration to figures."""
    x = Axis(-reach, reach, 3, 117)
    body = element("line", None, x1=60, x2=60, y1=0, y2=18, class_="zero")
    if low is not None and high is not None:
        body += element("line", None, x1=x.at(max(low, -reach)), x2=x.at(min(high, reach)), y1=9, y2=9, class_="whisker")
    body += element("circle", None, cx=x.at(value), cy=9, r=3.5, class_="bin" if value >= 0 else "bin below")
    return element("svg", body, viewBox="0 0 120 18", class_="forest", aria_hidden="true")


def _grid(x: Axis, y: Axis, left: float, right: float, bottom: float, count: int) -> str:
    """Lines and percentages of both axes."""
    parts = []
    step_y = y.ticks(6)
    digits = 0 if all(abs(100 * t - round(100 * t)) < 1e-6 for t in step_y) else 1
    for tick in step_y:
        parts.append(element("line", None, x1=left, x2=right, y1=y.at(tick), y2=y.at(tick), class_="grid"))
        parts.append(write_at(left - 5, y.at(tick) + 4, percent(tick, digits), "end", "axis"))
    marks = [tick for tick in x.ticks(count) if x.at(tick) > x.start + 24 or not x.low_is_zero]
    for tick in marks:
        label = f"{100 * tick:.4g}\u00a0%"
        parts.append(element("line", None, x1=x.at(tick), x2=x.at(tick), y1=bottom, y2=bottom + 4, class_="zero"))
        parts.append(write_at(x.at(tick), bottom + 17, label, "middle", "axis"))
    parts.append(element("line", None, x1=left, x2=right, y1=bottom, y2=bottom, class_="zero"))
    return "".join(parts)


def _cost_axis(costs: Sequence[float], start: float, end: float) -> Axis:
    """From zero, or by logarithm where the known costs above zero span more than LOG_SPAN."""
    paid, most = [cost for cost in costs if cost > 0], max(costs)
    if paid and most / min(paid) > LOG_SPAN:
        return Axis(
            min(paid) / (3.0 if len(paid) < len(costs) else 1.1),
            most * 1.05,
            start,
            end,
            log=True,
            low_is_zero=len(paid) < len(costs),
        )
    return Axis(0.0, most * 1.04 or 1.0, start, end)


def _round_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high]."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
