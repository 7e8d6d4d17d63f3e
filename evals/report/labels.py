"""Places the labels of a chart so that they cover neither each other nor the marks: greedy, over candidate positions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .markup import element

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels; y grows downward
Trail = tuple[tuple[float, float], ...]

LETTER = 7.4  # pixels a letter at 13 px: a wide system font, so that estimates err on the safe side
_HEIGHT, _MARGIN = 16.0, 2.0
# The cost of a label's position in addition to its distance in pixels; tuned on crowded charts.
_OVERLAPS = 500.0  # two labels: worse than all of the others together
_COVERS_LABEL, _COVERS_MARK, _CROSSES, _COVERS_CURVE = 50.0, 40.0, 20.0, 6.0


@dataclass(frozen=True, slots=True)
class Label:
    """The words for a mark at (x, y); bold ones are placed first and keep more distance."""

    words: str
    x: float
    y: float
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of a label: the anchor point of its words, and the ends of a line to its mark where it is far away.

    ``trail`` are points on that line."""

    x: float
    y: float
    anchor: str
    line: Box | None
    box: Box
    trail: Trail = ()

    @property
    def leader(self) -> str:
        """The markup of the line, or nothing."""
        if self.line is None:
            return ""
        x1, y1, x2, y2 = self.line
        return element("line", None, x1=x1, y1=y1, x2=x2, y2=y2, class_="leader")


def text_width(words: str) -> float:
    """An upper estimate of the words' width in pixels at 13 px; East Asian letters count twice."""
    return sum(LETTER if ord(letter) < 0x1100 else 2 * LETTER for letter in words)


def place(labels: Sequence[Label], bounds: Box, avoid: Sequence[tuple[float, float]]) -> list[Spot]:
    """A spot for each label, in the given order: inside ``bounds``, clear of the marks and of each other.

    ``avoid`` are points (of a curve) that a label rather does not cover. Where no free position exists the least bad is
    taken, so every label has a spot.
    """
    marks: list[Box] = [_around(label.x, label.y, 13 if label.bold else 8) for label in labels]
    boxes: list[Box] = []
    trails: list[Trail] = []
    spots: dict[int, Spot] = {}
    for i in sorted(range(len(labels)), key=lambda i: (not labels[i].bold, -text_width(labels[i].words), i)):
        best, spot = math.inf, None
        for extra, candidate in _candidates(labels[i]):
            if extra >= best:
                continue
            cost = extra + _outside(candidate.box, bounds) * 100
            for penalty in _penalties(candidate, i, boxes=boxes, marks=marks, trails=trails, avoid=avoid):
                if cost >= best:  # no penalty is negative
                    break
                cost += penalty
            if cost < best:
                best, spot = cost, candidate
        assert spot is not None  # there are always candidates
        boxes.append(spot.box)
        trails.append(spot.trail)
        spots[i] = spot
    return [spots[i] for i in range(len(labels))]


def _penalties(
    spot: Spot,
    i: int,
    *,
    boxes: Sequence[Box],
    marks: Sequence[Box],
    trails: Sequence[Trail],
    avoid: Sequence[tuple[float, float]],
) -> Iterator[float]:
    """What speaks against a spot for label ``i``, in pixels, worked out only as far as the caller asks for it."""
    yield sum(_OVERLAPS * (_overlap(spot.box, box) > 0) + _overlap(spot.box, box) for box in boxes)
    yield sum(_COVERS_MARK for box in marks if _overlap(spot.box, box) > 0)
    left, top, right, bottom = spot.box
    yield sum(_COVERS_CURVE for x, y in avoid if left <= x <= right and top <= y <= bottom)
    yield sum(_COVERS_LABEL for box in boxes if any(_inside(x, y, box) for x, y in spot.trail))
    yield sum(_CROSSES for k, box in enumerate(marks) if k != i and any(_inside(x, y, box) for x, y in spot.trail))
    yield sum(_COVERS_LABEL for trail in trails if any(_inside(x, y, spot.box) for x, y in trail))


def _candidates(label: Label) -> Iterator[tuple[float, Spot]]:
    """Positions around the mark, nearest and most usual first, each with the price of being far."""
    width, near = text_width(label.words), 15.0 if label.bold else 10.0
    for distance in (0.0, 14.0, 30.0, 50.0, 75.0, 105.0, 140.0, 180.0, 230.0, 290.0):
        for angle in (0, 180, 270, 90, 315, 45, 225, 135, 340, 20, 200, 160):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            reach = near + distance
            x = label.x + dx * reach
            y = label.y + dy * (reach + (2 if abs(dy) > 0.5 else 0))
            anchor = "start" if dx > 0.3 else "end" if dx < -0.3 else "middle"
            left = x if anchor == "start" else x - width if anchor == "end" else x - width / 2
            middle = y + (0.4 * _HEIGHT * dy if abs(dy) > 0.5 else 0)
            box = (left - _MARGIN, middle - _HEIGHT / 2, left + width + _MARGIN, middle + _HEIGHT / 2)
            trail: Trail = ()
            ends, far = None, distance * 0.4 + (0.5 if distance == 0 and angle % 90 else 0)
            if distance > 0:
                ends = x1, y1, x2, y2 = label.x + dx * (near - 2), label.y + dy * (near - 2), x - dx * 2, y - dy * 2
                trail = tuple((x1 + (x2 - x1) * i / 8, y1 + (y2 - y1) * i / 8) for i in range(8))
            yield far, Spot(x, middle + 4.5, anchor, ends, box, trail)


def _around(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _inside(x: float, y: float, box: Box) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _overlap(a: Box, b: Box) -> float:
    """The common area, in square pixels."""
    if a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]:
        return 0.0
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _outside(box: Box, bounds: Box) -> float:
    """By how many pixels a box leaves the bounds."""
    left, top, right, bottom = bounds
    return max(left - box[0], 0) + max(top - box[1], 0) + max(box[2] - right, 0) + max(box[3] - bottom, 0)
