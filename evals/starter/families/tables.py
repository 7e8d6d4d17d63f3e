"""Small tables in the layouts that turn up in chats and mails: look a cell up, find the extreme, add, count."""

import random
from collections.abc import Callable, Iterator, Sequence

from evals.starter.row import Row

COUNT = 90
_ASKED = (
    "Answer from the table, with a name or a number only.\n\n"
    "Table:\nfruit,price,weight\npear,3,70\nplum,2,40\nfig,9,25\n"
    "Question: Which fruit has the highest price?\nAnswer: fig\n\n"
    "Table:\n{}\nQuestion: {}\nAnswer:"
)

Cells = Sequence[tuple[str, ...]]


def rows(rng: random.Random) -> Iterator[Row]:
    """Subjects, layouts and questions, each in turn at its own pace, so that they mix."""
    for i in range(COUNT):
        header, names, bounds = _SUBJECTS[i % len(_SUBJECTS)]
        # No figure stands twice, so that every extreme and every look-up has one answer.
        figures = rng.sample(range(*bounds), 8)
        picked = rng.sample(names, 4)
        cells = [header, *((name, str(figures[j]), str(figures[j + 4])) for j, name in enumerate(picked))]
        question, gold = _QUESTIONS[(i // len(_SUBJECTS) + i) % len(_QUESTIONS)](rng, cells)
        table = _LAYOUTS[i % len(_LAYOUTS)](cells)
        yield {"prompt": _ASKED.format(table, question), "reference": gold}


def _markdown(cells: Cells) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join((lines[0], "|" + "---|" * len(cells[0]), *lines[1:]))


def _csv(cells: Cells) -> str:
    return "\n".join(",".join(row) for row in cells)


def _aligned(cells: Cells) -> str:
    widths = [max(len(row[j]) for row in cells) + 2 for j in range(len(cells[0]))]
    return "\n".join("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def _records(cells: Cells) -> str:
    header = cells[0]
    return "\n".join("- " + ", ".join(f"{key}: {cell}" for key, cell in zip(header, row, strict=True)) for row in cells[1:])


def _semicolons(cells: Cells) -> str:
    return "\n".join("; ".join(row) for row in cells)


def _cell(rng: random.Random, cells: Cells) -> tuple[str, str]:
    row, column = rng.randint(1, 4), rng.randint(1, 2)
    return f"What is the {cells[0][column]} of {cells[row][0]}?", cells[row][column]


def _most(rng: random.Random, cells: Cells) -> tuple[str, str]:
    column = rng.randint(1, 2)
    best = max(cells[1:], key=lambda row: int(row[column]))
    return f"Which {cells[0][0]} has the highest {cells[0][column]}?", best[0]


def _least(rng: random.Random, cells: Cells) -> tuple[str, str]:
    column = rng.randint(1, 2)
    best = min(cells[1:], key=lambda row: int(row[column]))
    return f"Which {cells[0][0]} has the lowest {cells[0][column]}?", best[0]


def _whose(rng: random.Random, cells: Cells) -> tuple[str, str]:
    row, column = rng.randint(1, 4), rng.randint(1, 2)
    return f"Which {cells[0][0]} has {cells[row][column]} as its {cells[0][column]}?", cells[row][0]


def _sum(rng: random.Random, cells: Cells) -> tuple[str, str]:
    (a, b), column = rng.sample(range(1, 5), 2), rng.randint(1, 2)
    total = int(cells[a][column]) + int(cells[b][column])
    return f"What is the {cells[0][column]} of {cells[a][0]} and {cells[b][0]} together?", str(total)


_LAYOUTS: tuple[Callable[[Cells], str], ...] = (_markdown, _csv, _aligned, _records, _semicolons)
_QUESTIONS: tuple[Callable[[random.Random, Cells], tuple[str, str]], ...] = (_cell, _most, _whose, _least, _cell, _sum)
_SUBJECTS: tuple[tuple[tuple[str, str, str], tuple[str, ...], tuple[int, int]], ...] = (
    (("city", "visitors", "hotels"), ("Graz", "Porto", "Lyon", "Turin", "Ghent", "Malmo", "Bergen"), (12, 99)),
    (("product", "price", "stock"), ("kettle", "toaster", "blender", "iron", "heater", "fan", "grill"), (15, 95)),
    (("employee", "overtime", "leave"), ("Amir", "Bella", "Chen", "Dora", "Eva", "Felix", "Greta"), (1, 30)),
    (("team", "wins", "goals"), ("Falcons", "Rovers", "Comets", "Tigers", "United", "Rangers", "Wolves"), (3, 60)),
    (("server", "requests", "errors"), ("alpha", "bravo", "delta", "echo", "kilo", "lima", "sierra"), (10, 99)),
    (("dish", "calories", "minutes"), ("soup", "curry", "salad", "pasta", "risotto", "omelette", "chili"), (10, 90)),
    (("course", "students", "hours"), ("physics", "history", "art", "biology", "music", "chemistry", "latin"), (8, 80)),
)
