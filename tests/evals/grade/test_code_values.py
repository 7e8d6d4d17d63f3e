# ruff: noqa: E501
"""What can be tested across the two processes, and what cannot be told."""

import pytest

from evals.grade import GraderError
from evals.grade.code import CodeGrader, GradingCase, run

ONE = CodeGrader()
STACK = """
class Empty(Exception):
    def __init__(self, depth): super().__init__(depth); self.depth = depth
class Stack:
    limit = 3
    def __init__(self, *items): self.items = list(items)
    def push(self, x): self.items.append(x); return self
    def pop(self):
        if not self.items: raise Empty(0)
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, i): return self.items[i]
    def __enter__(self): return self
    def __exit__(self, *why): self.items.clear(); return True
    def __add__(self, other): return Stack(*self.items, *other.items)
    def __eq__(self, other): return self.items == other.items
"""
RIGHT = {
    "values": (
        "def same(x): return x",
        """
for x in (None, True, 1, -2**70, 1.5, float("inf"), "\\ud800\\u00e9", b"\\xff", bytearray(b"x"), (1, (2,)), [1, [2]], {"a": {1: (2,)}},
          {1, 2}, frozenset("ab"), 1j, range(3), slice(1, 2), ..., int, [[]] * 2, {(1, 2): None}):
    assert same(x) == x and type(same(x)) is type(x), x
assert str(same(float("nan"))) == "nan"
""",
    ),
    "the standard library's values": (
        "def same(x): return x",
        """
from collections import *; from fractions import Fraction; from decimal import Decimal; from datetime import *
P = namedtuple("P", "x y")
for x in (Counter("aab"), OrderedDict(a=1), deque([1], 3), defaultdict(int, a=1), Fraction(1, 3), Decimal("0.10"), date(2026, 1, 2),
          datetime(2026, 1, 2, tzinfo=timezone.utc), time(1, 2), timedelta(days=1)):
    assert same(x) == x and type(same(x)) is type(x), x
assert same(P(1, 2)) == P(1, 2) and same(P(1, 2)).x == 1
""",
    ),
    "a list changed in place": ("def f(x): x.sort(); x[0] = [x]", "a = [3, 1]\nf(a)\nassert a[0][0] is a and a[1] == 3"),
    "arguments changed in depth": ("def f(x): x['a'].append(1); return x", "a = {'a': []}\nb = a['a']\nassert f(a) is a and b == [1]"),
    "a set and a dict changed": ("def f(s, d): s.add(1); d.clear()", "s, d = set(), {1: 2}\nf(s, d)\nassert s == {1} and not d"),
    "keywords and defaults": ("def f(a, /, b=2, *c, d, **e): return a, b, c, d, e", "assert f(1, d=3, z=4) == (1, 2, (), 3, {'z': 4})"),
    "an exception of Python's": ("def f(): raise ValueError('no')", "try: f()\nexcept ValueError as e: assert str(e) == 'no'\nelse: assert 0"),
    "an exception of the library's": (
        "import json\ndef f(): json.loads('{')",
        "import json\ntry: f()\nexcept json.JSONDecodeError: pass\nelse: assert 0",
    ),
    "an exception of its own": (STACK, "try: Stack().pop()\nexcept Empty as e: assert e.depth == 0 and isinstance(e, Exception)\nelse: assert 0"),
    "a class": (STACK, "s = Stack(1).push(2)\nassert len(s) == 2 and s.pop() == 2 and s.items == [1] and list(s) == [1] and s[0] == 1\n"
                "s.items = [5]\nassert s.pop() == 5 and Stack.limit == 3 and isinstance(s, Stack) and not isinstance(1, Stack)"),
    "a context": (STACK, "with Stack(1) as s:\n    assert len(s) == 1\nassert not s.items"),
    "operators": (STACK, "assert list(Stack(1) + Stack(2)) == [1, 2]"),
    "a generator": ("def f():\n    n = 0\n    while True: yield n; n += 1", "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]"),
    "a closure": ("def add(a): return lambda b: a + b", "assert add(1)(2) == 3"),
    "a coroutine": ("import asyncio\nasync def f(x): await asyncio.sleep(0); return x", "import asyncio\nassert asyncio.run(f(3)) == 3"),
    "a callback": ("def f(g, xs): return [g(x) for x in xs]", "seen = []\nassert f(lambda x: seen.append(x) or x * 2, (1, 2)) == [2, 4]\nassert seen == [1, 2]"),
    "a callback that raises": (
        "def f(g):\n    try: g()\n    except ZeroDivisionError: return 'caught'",
        "assert f(lambda: 1 / 0) == 'caught'",
    ),
    "an iterator handed over": ("def f(xs): return sum(xs)", "assert f(x for x in (1, 2)) == 3 and f(map(int, '12')) == 3"),
    "objects of the tests'": (
        "def f(n):\n    s = 0\n    while n: s += n.val; n.val = 0; n = n.next\n    return s",
        "class N:\n    def __init__(self, val, next=None): self.val, self.next = val, next\na = N(1, N(2))\nassert f(a) == 3 and a.next.val == 0",
    ),
    "a dataclass": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 2\ndef f(): return P(1)",
        "assert (f().x, f().y) == (1, 2) and repr(P(3)) == 'P(x=3, y=2)'",
    ),
    "a derived type": ("class L(list): pass\ndef f(): return L([1, 2])", "assert f() == [1, 2] and len(f()) == 2 and sorted(f()) == [1, 2]"),
    "an enumeration": ("from enum import Enum\nC = Enum('C', 'A B')\ndef f(): return C.A", "assert f() is C.A and f().name == 'A'"),
    "printed text": ("def f(): print('hello')", "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as o: f()\nassert o.getvalue() == 'hello\\n'"),
    "HumanEval's form": ("def f(x): return x + 1", "METADATA = {}\ndef check(candidate):\n    assert candidate(1) == 2\ncheck(f)"),
    "unittest": (
        STACK,
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(Stack(1).pop(), 1)\n"
        "        with self.assertRaises(Empty): Stack().pop()\nr = unittest.TestResult()\nT('test').run(r)\nassert r.wasSuccessful()",
    ),
    "a built-in function's name": ("def sum(a, b): return a * b", "assert sum(2, 5) == 10"),
    "arrays": (
        "import numpy as np\ndef f(x): x[0] = 7; return np.arange(3.0) * 2",
        "import numpy as np\nassert np.allclose(f([1]), [0, 2, 4]) and f([0]).dtype == float",
    ),
    "a name and a constant": ("PI = 3\ndef f(): pass", "assert PI == 3 and f.__name__ == 'f'"),
    "a constant alone": ("answer = 42", "assert answer == 42"),
}  # fmt: skip
UNTOLD = {
    "what cannot be handed over": (
        "def f(x): return 1",
        "import threading\nassert f(threading.Lock()) == 1",
        "a _thread.lock",
    ),
    "an error kept by a context": (STACK, "with Stack(1) as s:\n    1 / 0\nassert not s.items", "for with"),
    "equality of its own": (STACK, "assert Stack(1) == Stack(1)", "for =="),
    "arithmetic of its own with a number": (
        "class V:\n    def __sub__(self, o): return 0",
        "assert V() - 4 == 0",
        "for sub",
    ),
    "containment of its own": ("class V:\n    def __contains__(self, o): return True", "assert 4 in V()", "for in"),
    "order of its own": ("class V:\n    def __lt__(self, o): return True", "assert V() < V()", "for lt"),
    "a judging method": (
        "class V:\n    def startswith(self, o): return True",
        "assert V().startswith('a')",
        "for startswith",
    ),
}


@pytest.mark.parametrize(("program", "tests"), RIGHT.values(), ids=RIGHT)
def test_right_answers_of_every_kind_pass(program: str, tests: str) -> None:
    """What the tests use of a program comes over as it is."""
    assert run(ONE, program, tests) == ("passed", "")


@pytest.mark.parametrize(("program", "tests", "message"), UNTOLD.values(), ids=UNTOLD)
def test_what_cannot_be_told_is_no_grade(program: str, tests: str, message: str) -> None:
    """Neither right nor wrong: the tests rest on what only the program can say, or on what it cannot be given."""
    outcome, why = run(ONE, program, tests)
    assert (outcome, message in why) == ("untold", True), why
    assert ONE.grade(GradingCase(text=program, reference=tests)) is None


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(): return [1, 3]", "assert f() == [1, 2]"),
        ("def f(): return (1, 2)", "assert f() == [1, 2]"),
        ("class V: pass\ndef f(): return V()", "assert f() == 1"),
        ("def f(): raise KeyError", "try: f()\nexcept ValueError: pass"),
        ("def f(x): x = sorted(x)", "a = [2, 1]\nf(a)\nassert a == [1, 2]"),
        ("def f(g): return g", "assert f(lambda: 1)() == 2"),
    ],
)
def test_wrong_answers_fail(program: str, tests: str) -> None:
    """A value that is another, and an object where a value is wanted."""
    assert ONE.grade(GradingCase(text=program, reference=tests)) == 0.0


def test_without_walls_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why and what would be risked; the option runs it all the same."""
    from evals.grade import code

    real = code.SERVER.run
    monkeypatch.setattr(code.SERVER, "run", lambda *_: ("no walls", "the kernel gives this user no namespaces"))
    with pytest.raises(GraderError, match=r"no isolation to run answers in .*no namespaces.* --unsafe: .*your rights"):
        ONE.grade(GradingCase(text="x = 1", reference="assert x == 1"))
    monkeypatch.setattr(code.SERVER, "run", real)
    assert CodeGrader(unsafe=True).grade(GradingCase(text="x = 1", reference="assert x == 1")) == 1.0
