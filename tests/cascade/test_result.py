"""Result, Attempt and the errors of a run as people and programs read them."""

import copy
import json
import logging
import pickle
from dataclasses import asdict, replace
from datetime import date
from enum import Enum
from fractions import Fraction
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

import cascade
from cascade import Attempt, Cascade, Result, RunError, UnsureError
from cascade.errors import JournalError
from cascade.util.plain_data import plain, shortened

FILE = """
models:
  small: {provider: scripted, answers: ['{"name": "Secretville"}']}
  large: {provider: scripted, answers: ['{"name": "Paris"}']}
policies:
  default:
    tiers:
      - {model: small, accept_at: 0.99, judges: [schema, rules]}
      - {model: large, accept_at: 0, judges: [schema, rules]}
  strict: {when_unsure: raise, tiers: [{model: small, accept_at: 0.99, judges: [schema, rules]}]}
  abstaining: {when_unsure: abstain, tiers: [{model: small, accept_at: 0.99}]}
"""
PROMPT = "Which town keeps my password hunter2?"


class City(BaseModel):
    """What the prompt asks for."""

    name: str
    founded: date | None = None


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """A policy file with scripted models."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def result(policy_file: Path) -> Result[City]:
    """The result of a run of two tiers that parsed a pydantic model."""
    with Cascade(policy_file) as service:
        return service.run(PROMPT, schema=City)


def test_repr_is_one_short_line_without_any_text(result: Result[City]) -> None:
    """Logs and error trackers keep reprs: neither prompt nor answer may be in one."""
    for printed in (repr(result), *map(repr, result.attempts)):
        assert "\n" not in printed
        assert len(printed) < 400
        for text in ("hunter2", "Secretville", "Paris"):
            assert text not in printed
    assert "accepted=False" in repr(result)
    assert "Result(" in repr([result])


def test_print_is_a_summary_for_people(result: Result[City]) -> None:
    """The answer, how sure it is, what it cost, each attempt in a line."""
    lines = str(result).splitlines()
    assert lines[0] == "NOT accepted (last_tier: no judge scored it), confidence 0.500 (uncalibrated)"
    assert '  text      {"name": "Paris"}' in lines
    assert "  cost      unknown" in lines
    assert lines[-3:-1] == [
        "  attempts  small: unsure; schema -, rules -",
        "            large: last_tier; schema -, rules -",
    ]
    assert "hunter2" not in str(result)
    logging.getLogger(__name__).info("%s", result)


def test_print_says_what_was_not_accepted_and_why(policy_file: Path) -> None:
    """An abstention has no text; a long text is cut."""
    with Cascade(policy_file) as service:
        abstained = service.run(PROMPT, policy="abstaining")
    assert str(abstained).splitlines()[:2] == [
        "NOT accepted (unsure), confidence 0.500 (uncalibrated)",
        "  text      none: the policy abstained",
    ]
    assert len(str(replace(abstained, text="x" * 10_000, answer=cascade.Answer("x")))) < 2500


def test_to_dict_is_plain_json(result: Result[City]) -> None:
    """Also where a pydantic model was parsed; round trips through JSON unchanged."""
    data = result.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["parsed"] == {"name": "Paris", "founded": None}
    assert [a["tier"] for a in data["attempts"]] == ["small", "large"]
    assert data["cost_usd"] is None


def test_to_dict_has_reasoning_only_where_there_is_some(result: Result[City]) -> None:
    """The judges' own thoughts and rejected tiers' are not part of it."""
    assert "reasoning" not in result.to_dict()
    thinking = replace(result, answer=cascade.Answer("x", reasoning="Hm."))
    assert (thinking.reasoning, thinking.to_dict()["reasoning"]) == ("Hm.", "Hm.")
    assert replace(result, answer=None).reasoning is None


def test_dataclasses_and_pydantic_read_a_result(result: Result[City], policy_file: Path) -> None:
    """What FastAPI's jsonable_encoder does (asdict, then each value), and what a response model does."""
    with Cascade(policy_file) as service:
        by_schema = asdict(service.run(PROMPT, schema={"type": "object"}))
    assert json.loads(json.dumps(by_schema))["parsed"] == {"name": "Paris"}
    assert asdict(result)["parsed"] == City(name="Paris")
    dumped = json.loads(TypeAdapter(Result[City]).dump_json(result))
    assert dumped["parsed"] == {"name": "Paris", "founded": None}
    assert dumped["attempts"][0]["verdicts"][0]["judge"] == "schema"
    assert TypeAdapter(Result).dump_python(result, mode="json")["reason"] == "last_tier"
    assert asdict(result)["judged"] is dumped["judged"] is result.to_dict()["judged"] is False


def test_results_survive_copies_and_pickles(result: Result[City]) -> None:
    """As a process pool sends them."""
    assert pickle.loads(pickle.dumps(result)) == result == copy.deepcopy(result)


def test_errors_of_runs_are_plain_data_and_pickle(policy_file: Path) -> None:
    """With their attempts, and UnsureError with its result."""
    with Cascade(policy_file) as service, pytest.raises(UnsureError) as raised:
        service.run(PROMPT, policy="strict", schema=City)
    error = raised.value
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.run_id, again.attempts, again.result) == (
        str(error),
        error.run_id,
        error.attempts,
        error.result,
    )
    data = json.loads(json.dumps(error.to_dict(), allow_nan=False))
    assert data["error"] == "UnsureError"
    assert data["result"]["parsed"] == {"name": "Secretville", "founded": None}
    assert data["attempts"][0]["reason"] == "unsure"
    assert "hunter2" not in repr(error)
    plain_error = RunError("nothing", error.attempts, "id")
    assert pickle.loads(pickle.dumps(plain_error)).attempts == error.attempts
    assert pickle.loads(pickle.dumps(JournalError("full", error.result))).result == error.result


def test_fields_are_given_by_name() -> None:
    """Thirteen fields in a row could be swapped unnoticed."""
    for kind in (Result, Attempt):
        with pytest.raises(TypeError, match="positional"):
            kind("a", "b")  # type: ignore[call-arg, arg-type]


class Colour(Enum):
    """An enumeration."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (nan, None),
        (inf, None),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (Colour.RED, "red"),
        ({Colour.RED: Fraction(1, 2)}, {"red": "1/2"}),
        ({1: True}, {"1": True}),
        (City(name="a"), {"name": "a", "founded": None}),
        (City, str(City)),
        (
            cascade.Verdict("j", 0.5),
            {"judge": "j", "score": 0.5, "veto": False, "reason": "", "answer": None, "details": {}, "failed": False},
        ),
    ],
)
def test_plain_data_of(value: Any, expected: Any) -> None:
    """Whatever a judge puts into its details, or a schema parses."""
    assert plain(value) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_plain_data_is_json(value: Any) -> None:
    """For any value at all, and what is plain already stays as it is."""
    data = plain(value)
    assert json.loads(json.dumps(data, allow_nan=False)) == data == plain(data)


def test_shortened_says_how_long_the_text_was() -> None:
    """Only where something is missing."""
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd efgh", 5) == "abcd... (9 characters)"
