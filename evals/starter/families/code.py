"""What a few lines of Python print: each pattern another construct; the gold answer is what running the lines gives."""

import io
import random
from collections.abc import Iterator
from contextlib import redirect_stdout

from evals.starter.row import Row

COUNT = 84
_ASKED = "What does this Python code print? Reply with the output only, in one line.\n\n"
_WORDS = ("apple", "river", "stone", "cloud", "maple", "tiger", "piano", "lemon", "robot", "green", "table", "music")

# Braces of Python stand doubled, as the patterns are filled in by str.format.
PATTERNS = (
    "x = {a}\ny = {b}\nprint(x + y)",
    "x = {c}\nx = x * {a}\nprint(x)",
    "x = {c}\nx += {a}\nx -= {b}\nprint(x)",
    'print(len("{w}"))',
    'print("{w}".upper())',
    'print("{w}"[0])',
    'print("{w}" + "{v}")',
    'print("{w}"[:3])',
    "numbers = [{c}, {a}, {b}]\nprint(numbers[1])",
    "numbers = [{c}, {a}, {b}]\nprint(max(numbers))",
    "numbers = [{c}, {a}, {b}]\nprint(len(numbers))",
    "print(sorted([{b}, {c}, {a}])[0])",
    "print(sum([{c}, {a}, {b}]))",
    'stock = {{"{w}": {a}, "{v}": {b}}}\nprint(stock["{v}"])',
    'stock = {{"{w}": {a}}}\nprint(stock.get("{v}", {c}))',
    "def f(n):\n    return n * {c}\n\nprint(f({d}))",
    "def f(a, b={c}):\n    return a + b\n\nprint(f({a}))",
    "total = 0\nfor i in range({d}):\n    total += {c}\nprint(total)",
    "x = {a}\nif x > {b}:\n    print('big')\nelse:\n    print('small')",
    "n = {d}\nwhile n > 2:\n    n -= 1\nprint(n)",
    "print({a} % {c})",
    "print({a} // {c})",
    "print({a} > {b})",
    "print('{w}' == '{v}')",
    "words = ['{w}', '{v}']\nprint('-'.join(words))",
    "print('{w} {v}'.split()[1])",
    "print([n * 2 for n in [{c}, {d}]])",
    "a, b = {a}, {b}\na, b = b, a\nprint(a)",
)


def rows(rng: random.Random) -> Iterator[Row]:
    """Each pattern in turn with new values."""
    made: set[str] = set()
    while len(made) < COUNT:
        w, v = rng.sample(_WORDS, 2)
        a, b = rng.sample(range(11, 50), 2)
        c, d = rng.sample(range(3, 10), 2)
        code = PATTERNS[len(made) % len(PATTERNS)].format(a=a, b=b, c=c, d=d, w=w, v=v)
        if code not in made:
            made.add(code)
            yield {"prompt": _ASKED + code, "reference": printed(code)}


def printed(code: str) -> str:
    """What ``code``, made from this file's patterns, prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(code, {})
    return out.getvalue().strip()
