"""JSON in replies: one reader for the judge, the vote and the graders."""

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.grade.protocol import GradingCase
from evals.grade.structured import JsonGrader
from judges import Answer, JudgeInput, Prompt
from judges.equivalence import key
from judges.reading import find_json
from judges.schema import SchemaJudge
from judges.self_consistency import SelfConsistencyJudge

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
ANA = {"name": "Ana", "age": 30}
CORRECTED = [
    'A draft: {"name": "Bob", "age": 1}. No: {"name": "Ana", "age": 30}',
    '```json\n{"name": "Bob", "age": 1}\n```\nBetter:\n```json\n{"name": "Ana", "age": 30}\n```\nDone.',
    '{"name": "Bob", "age": 1}\n{"name": "Ana", "age": 30}',
    '```\n{"name": "Bob", "age": 1}\n```\nso {"name": "Ana", "age": 30}',
    '{"name": "Ana", "age": 30} as said in [1] and [2].',
]
containers = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8) | st.none(), max_size=4)


def judge(text: str, **options: Any) -> Any:
    """The schema judge's verdict."""
    return SchemaJudge(**options).judge(JudgeInput(prompt=Prompt.of("q", schema=PERSON), answer=Answer(text)))


@pytest.mark.parametrize("text", CORRECTED)
def test_the_last_value_counts_for_all(text: str) -> None:
    """Judge, vote and grader read the same value, and the judge's answer is that JSON alone."""
    verdict = judge(text)
    assert verdict.answer.parsed == ANA
    assert json.loads(verdict.answer.text) == ANA
    assert key(text, "json") == key(json.dumps(ANA), "json")
    assert JsonGrader().grade(GradingCase(text=text, reference=ANA, prompt=Prompt.of("q"))) == 1.0


def test_the_last_valid_value_counts() -> None:
    """A later value that the schema does not allow is a remark."""
    text = '{"name": "Ana", "age": 30} for the format {"name": "text", "age": "number"}'
    assert judge(text).answer.parsed == ANA
    assert JsonGrader().grade(GradingCase(text=text, reference=ANA, prompt=Prompt.of("q", schema=PERSON))) == 1.0

    async def ask(prompt: Prompt, **options: Any) -> list[Answer]:
        return [Answer(json.dumps(ANA))] * options["n"]

    case = JudgeInput(prompt=Prompt.of("q", schema=PERSON), answer=Answer(text), ask=ask)
    assert asyncio.run(SelfConsistencyJudge(samples=3).judge(case)).score == 1.0


def test_nothing_valid_names_the_fault() -> None:
    """The last value's errors are the reason."""
    verdict = judge('{"name": 1, "age": 1} {"name": "x", "age": "y"}')
    assert verdict.veto
    assert verdict.reason == "$.age: 'y' is not of type 'integer'"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ana", "age": 30,}',
        "{'name': 'Ana', 'age': 30}",
        '{name: "Ana", age: 30}',
        '{"name": "Ana", // her name\n "age": 30}',
        '{"name": "Ana", /* , } */ "age": 30, # years\n}',
        'Here you are:\n```python\n{\'name\': "Ana", "age": 30, "x": None, "y": [True, False,]}\n```',
    ],
)
def test_nearly_json_is_read_only_where_allowed(text: str) -> None:
    """A policy may allow a repair, which is marked; else it is a veto as before."""
    assert judge(text).veto
    verdict = judge(text, repair=True)
    assert not verdict.veto, verdict.reason
    assert verdict.details == {"repaired": True}
    assert json.loads(verdict.answer.text) == verdict.answer.parsed
    assert {**verdict.answer.parsed, **ANA} == verdict.answer.parsed


def test_repaired_strings_keep_their_characters() -> None:
    """Line breaks, quotes and escapes inside strings are what was written."""
    text = """{'a': 'it\\'s "so"', "b": "x\ny", 'c': '\\u00e9 // no comment', "d": 'True',}"""
    assert find_json(text, repair=True).value == {"a": 'it\'s "so"', "b": "x\ny", "c": "é // no comment", "d": "True"}


@pytest.mark.parametrize(
    "text", ['{"name": "Ana", "age": 30', '{"name": "Ana", "age": ', "{'name': 'Ana", "I like {this} [very much]."]
)
def test_what_is_cut_or_prose_is_not_repaired(text: str) -> None:
    """Half an answer is none, and braces in prose are no JSON."""
    assert judge(text, repair=True).veto


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 3O}',
        '{"a": 1,000}',
        '{"a": 1,,"b": 2}',
        '{"a": [1, 2, ...]}',
        '{"a": "b", "c"}',
        '{"a": [1, 2}',
        '{"a": }',
        '{"a": NaN,}',
        '{"a": 1e999,}',
        '{"a": 007}',
        '{"a": 1/2}',
        '{"a": perhaps,}',
        "{this}",
        '{"a": "x",} and {"b": [1, {"c": 2',
    ],
)
def test_a_repair_never_guesses(text: str) -> None:
    """Only punctuation may differ: no value becomes another or is left out, and what is cut is not closed."""
    with contextlib.suppress(ValueError):
        assert find_json(text, repair=True).value == {"a": "x"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('{"a": "x" "b": [1 2.50],}', {"a": "x", "b": [1, 2.5]}),
        ('{"path": "C:\\\\dir", "u": "http://a/b",}', {"path": "C:\\dir", "u": "http://a/b"}),
        ('{"e": "\\ud83d\\ude00 \\u00e9",}', {"e": "😀 é"}),
        ('{"a": 1.50e3, "b": -0.0, "none": None,}', {"a": 1500.0, "b": -0.0, "none": None}),
        ('{"a": "Tom\'s, or 1,000", "b": "", "c": " x",}', {"a": "Tom's, or 1,000", "b": "", "c": " x"}),
    ],
)
def test_a_repair_keeps_values(text: str, value: dict[str, Any]) -> None:
    """Numbers, paths, addresses and escapes are what was written."""
    match = find_json(text, repair=True)
    assert (match.value, match.repaired) == (value, True)


@pytest.mark.parametrize("reason", ["length", "content_filter", "brand_new"])
def test_a_cut_answer_is_not_repaired(reason: str) -> None:
    """It may look closed by chance."""
    answer = Answer("{'name': 'Ana', 'age': 30}", finish_reason=reason)
    case = JudgeInput(prompt=Prompt.of("q", schema=PERSON), answer=answer)
    assert SchemaJudge(repair=True).judge(case).veto  # type: ignore[union-attr]


@given(
    st.dictionaries(
        st.text(max_size=6), st.text(max_size=12) | st.integers() | st.floats(-1e9, 1e9) | st.booleans(), max_size=3
    )
)
@settings(max_examples=50)
def test_a_repair_is_right_or_refused(value: dict[str, Any]) -> None:
    """Of Python's own notation with a trailing comma either the value is read or none."""
    with contextlib.suppress(ValueError):
        assert find_json(f"{repr(value)[:-1]},}}", repair=True).value == value or "\\" in repr(value)


def test_strict_json_is_never_touched() -> None:
    """With a repair allowed, JSON is read as JSON and not marked."""
    verdict = judge('{"name": "Ana // \'x\'", "age": 30}', repair=True)
    assert verdict.details == {}
    assert verdict.answer.parsed["name"] == "Ana // 'x'"


@given(containers, containers, st.sampled_from(["{} then {}", "```json\n{}\n```\n```\n{}\n```", "{}\n{}", "So {}: no, {}."]))
def test_any_two_values(first: dict[str, Any], second: dict[str, Any], frame: str) -> None:
    """Of two objects the second counts, wherever they stand."""
    head, middle, tail = frame.split("{}")
    text = f"{head}{json.dumps(first)}{middle}{json.dumps(second)}{tail}"
    assert find_json(text).value == second


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "['" * 50_000,
        '{"a":' * 50_000,
        "```" * 60_000,
        '```\n{"a' * 40_000,
        'x {"a":"```\n' * 30_000,
        '{"a": 1} ' * 30_000,
        "/*" * 90_000,
        "[" * 7_000 + "'x'," + "]" * 7_000,
        "{'a': " + "'\"" * 7_000 + "}",
        "{'a': '" + '"x, ' * 3_900 + "'}",
        "[" + "{'a': 'b',}," * 80_000 + "]",
        "{'a': 'b',} " * 80_000,
        "{a:" + "b " * 7_900 + "}",
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    """Unclosed and endless texts end quickly."""
    began = time.process_time()
    for repair in (False, True):
        with contextlib.suppress(ValueError, RecursionError):
            find_json(text, repair=repair)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('Here: {"a": "```"} ok', {"a": "```"}),
        ('Sure {"a": "```py\\nx\\n```", "c": [1, 2]} done', {"a": "```py\nx\n```", "c": [1, 2]}),
        ('First {"```json": [1]}, then ```json\n{"b": 2}\n``` instead', {"b": 2}),
        ('The set {"x is open: ```json\n{"a": 1}\n``` end', {"a": 1}),
    ],
)
def test_a_fence_in_a_string_ends_no_value(text: str, value: dict[str, Any]) -> None:
    """Neither in a block nor in prose; a bracket of the prose that is never closed takes no block with it."""
    assert find_json(text).value == value


def test_a_byte_order_mark_is_no_json() -> None:
    """A client's JSON parser refuses it, so that only the value is returned."""
    match = find_json('\ufeff{"a": 1}')
    assert (match.value, match.text, match.whole) == ({"a": 1}, '{"a": 1}', False)
