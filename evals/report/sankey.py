"""The way of the prompts from tier to tier, as a Sankey drawing: a band's width is its count of prompts.

The layout is made once along an axis and across it; a wide drawing runs from left to right, a narrow one downward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import drawing, write_at
from .labels import LETTER, text_width
from .markup import clip, element, number, percent, text, whole

_BOLD = 1.18  # how much wider the bold names are than other words


@dataclass(frozen=True, slots=True)
class Link:
    """n prompts that went from one place to another."""

    source: str
    target: str
    n: float


@dataclass(frozen=True, slots=True)
class Node:
    """A place: its row (0 is where prompts come in), its first pixel across the flow, its size there, its count."""

    row: int
    start: float
    size: float
    n: float
    last: bool


def links(flow: Sequence[Mapping[str, Any]]) -> list[Link]:
    """The links whose count is known and above zero."""
    return [Link(str(f["source"]), str(f["target"]), n) for f in flow if (n := number(f.get("n"))) is not None and n > 0]


def layout(flow_links: Sequence[Link], across: float, gap: float) -> dict[str, Node]:
    """The places by name. All sizes have one scale, and no row is wider than ``across`` with ``gap`` between its places.

    Tiers stand first in their row, where prompts leave the ladder last. Empty for a flow that runs in a circle.
    """
    names = list(dict.fromkeys(name for link in flow_links for name in (link.source, link.target)))
    row = dict.fromkeys(names, 0)
    for _ in names:
        before = dict(row)
        for link in flow_links:
            row[link.target] = max(row[link.target], row[link.source] + 1)
        if row == before:
            break
    else:
        return {}
    goes = {link.source for link in flow_links}
    counts = {
        name: max(sum(f.n for f in flow_links if f.source == name), sum(f.n for f in flow_links if f.target == name))
        for name in names
    }
    rows = [
        [n for n in names if row[n] == i and n in goes] + [n for n in names if row[n] == i and n not in goes]
        for i in range(max(row.values(), default=-1) + 1)
    ]
    scale = min(((across - gap * (len(r) - 1)) / sum(counts[n] for n in r) for r in rows), default=0.0)
    places = {}
    for i, members in enumerate(rows):
        start = 0.0
        for name in members:
            size = max(counts[name] * scale, 1.0)
            places[name] = Node(i, start, size, counts[name], name not in goes)
            start += size + gap
    return places


def sankey(key: str, flow: Sequence[Mapping[str, Any]], narrow: bool = False) -> str:
    """The drawing; empty where no count is known or the flow runs in a circle. ``key`` must be unique in the page."""
    flow_links = links(flow)
    gap = 26.0 if narrow else 40.0
    places = layout(flow_links, 335.0 if narrow else 250.0, gap)
    if not places:
        return ""
    depth, thick = max(node.row for node in places.values()), 10.0
    step = 92.0 if narrow else (1040.0 - 180.0) / max(depth, 1)
    total = sum(node.n for node in places.values() if node.row == 0)

    parts, left, entered = [], dict.fromkeys(places, 0.0), dict.fromkeys(places, 0.0)
    scale = {name: node.size / node.n for name, node in places.items()}
    top = 8.0 if narrow else 4.0
    # Bands leave a place in the order of their targets, so that they do not cross.
    for link in sorted(flow_links, key=lambda f: (places[f.target].row, places[f.target].start)):
        source, target = places[link.source], places[link.target]
        wide_a, wide_b = link.n * scale[link.source], link.n * scale[link.target]
        a, b = source.start + left[link.source], target.start + entered[link.target]
        left[link.source] += wide_a
        entered[link.target] += wide_b
        begin, end = top + source.row * step + thick, top + target.row * step
        tooltip = f"{link.source} → {link.target}: {whole(link.n)} ({percent(link.n / total)})"
        body = element("title", text(tooltip))
        shape = _band(begin=begin, end=end, a=a, b=b, wide_a=wide_a, wide_b=wide_b, narrow=narrow)
        parts.append(element("path", body, d=shape, class_=f"band {'answered' if target.last else 'onward'} tip"))
    for node in places.values():
        x, y, w, h = top + node.row * step, node.start, thick, node.size
        x, y, w, h = (y, x, h, w) if narrow else (x, y + 4.0, w, h)
        parts.append(element("rect", None, x=x, y=y, width=w, height=h, rx=2, class_="place last" if node.last else "place"))
    parts += _words_below(places, total, top, step, thick) if narrow else _words_beside(places, total, top, step, thick)
    across = max(node.start + node.size for node in places.values())
    along = top + depth * step + thick
    width, height = (343.0, along + 44.0) if narrow else (1040.0, across + 14.0)
    described = "; ".join(f"{link.source} to {link.target}: {whole(link.n)}" for link in flow_links)
    return drawing(key, width, height, "Flow of the prompts from tier to tier", described, "".join(parts))


def _band(*, begin: float, end: float, a: float, b: float, wide_a: float, wide_b: float, narrow: bool) -> str:
    """A band with smooth sides between two places."""
    mid = (begin + end) / 2

    def at(along: float, across: float) -> str:
        return f"{across:.1f} {along:.1f}" if narrow else f"{along:.1f} {across + 4:.1f}"

    there = f"M{at(begin, a)}C{at(mid, a)} {at(mid, b)} {at(end, b)}"
    back = f"L{at(end, b + wide_b)}C{at(mid, b + wide_b)} {at(mid, a + wide_a)} {at(begin, a + wide_a)}Z"
    return there + back


def _short(name: str, letters: int) -> str:
    """The name as far as there is room; "answered by NAME" and "not asked: NAME" are next to that name and may omit it."""
    for prefix in ("answered", "not asked"):
        if len(name) > letters and name.startswith(prefix):
            return prefix
    return clip(name, letters)


def _words_beside(places: Mapping[str, Node], total: float, top: float, step: float, thick: float) -> list[str]:
    """Name and count to the right of each place."""
    parts, depth = [], max(node.row for node in places.values())
    for name, node in places.items():
        # A place at the top may be lower than its words are high.
        x, y = top + node.row * step + thick + 8, max(4 + node.start + node.size / 2, 15.0)
        room = 170.0 if node.row == depth else min(step - 30, 170.0)
        letters = max(int(room / LETTER), 4)
        parts.append(write_at(x, y - 2, _short(name, letters), class_="name"))
        parts.append(write_at(x, y + 14, f"{whole(node.n)} · {percent(node.n / total)}", class_="count"))
    return parts


def _words_below(places: Mapping[str, Node], total: float, top: float, step: float, thick: float) -> list[str]:
    """Name and count below each place; those of one row one after the other, kept inside the drawing."""
    parts = []
    for i in range(max(node.row for node in places.values()) + 1):
        members = [(name, node) for name, node in places.items() if node.row == i]
        members.sort(key=lambda member: member[1].start)
        free, letters = 2.0, max(int((343 / len(members) - 8) / (LETTER * _BOLD)), 4)
        named = [(_short(name, letters), f"{whole(node.n)} · {percent(node.n / total)}", node) for name, node in members]
        needs = [max(text_width(words) * _BOLD, text_width(counted)) for words, counted, _ in named]
        for k, (words, counted, node) in enumerate(named):
            later = sum(needs[k:]) + 8 * (len(named) - 1 - k)
            x = max(free, min(node.start + 2, 341 - later))
            y = top + i * step + thick + 17
            parts.append(write_at(x, y, words, class_="name"))
            parts.append(write_at(x, y + 16, counted, class_="count"))
            free = x + needs[k] + 8
    return parts
