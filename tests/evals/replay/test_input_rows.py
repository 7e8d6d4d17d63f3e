"""Which rows and judges a replay uses, and what it says of the others."""

from dataclasses import replace
from typing import Any

import pytest

from evals.recording import Example
from evals.replay.rows.input_rows import (
    MOST_SAMPLES,
    ReplayError,
    check_judges,
    check_tiers,
    default_judges,
    judge_plans,
    named_judges,
    preview,
    prompt_key,
    row_warnings,
    usable_rows,
)
from tests.evals.replay.synthetic import examples

TIERS = ["cheap", "middle", "dear"]


def spoilt(rows: list[Example], at: dict[int, dict[str, Any] | None], model: str = "cheap") -> list[Example]:
    """The rows with one model's answer changed, or taken away, at some places."""
    changed = []
    for i, row in enumerate(rows):
        answers = dict(row.answers)
        if i in at:
            change = at[i]
            if change is None:
                del answers[model]
            else:
                answers[model] = {**answers[model], **change}
        changed.append(replace(row, answers=answers))
    return changed


def test_all_rows_are_used_where_all_are_whole() -> None:
    """Nothing is left out and nothing said; a model that is no tier does not matter."""
    rows = spoilt(examples(10), dict.fromkeys(range(10)), "middle")
    usable, counts, warnings = usable_rows(rows, ["cheap", "dear"])
    assert usable == rows
    assert counts == {"a tier has no answer": 0, "not graded": 0, "cost unknown": 0}
    assert warnings == []


def test_rows_are_left_out_by_reason_and_named() -> None:
    """Each counts once, under the first reason; quality 0 and cost 0 are known."""
    changes: dict[int, dict[str, Any] | None] = {
        1: None,
        2: {"quality": None},
        3: {"cost_usd": None},
        4: {"quality": None, "cost_usd": None},
        5: {"quality": 0.0, "cost_usd": 0.0},
    }
    rows = spoilt(examples(40), changes)
    usable, counts, warnings = usable_rows(rows, TIERS)
    assert [e.id for e in usable] == [f"row-{i}" for i in range(40) if i not in (1, 2, 3, 4)]
    assert counts == {"a tier has no answer": 1, "not graded": 2, "cost unknown": 1}
    assert warnings == [
        "left out: 1 row, a tier has no answer: row-1",
        "left out: 2 rows, not graded: row-2, row-4",
        "left out: 1 row, cost unknown: row-3",
    ]


@pytest.mark.parametrize("spoilt_rows", [8, 9, 39])
def test_incomplete_rows_are_left_out_and_counted(spoilt_rows: int) -> None:
    """Above a fifth the first warning says how many rows are used, and why not the others."""
    rows = spoilt(examples(40), {i: {"quality": None} for i in range(spoilt_rows)})
    usable, _, warnings = usable_rows(rows, TIERS)
    assert len(usable) == 40 - spoilt_rows
    first = f"{40 - spoilt_rows} of 40 rows used, because of the others: not graded ({spoilt_rows})"
    assert warnings[0].startswith(first) is (spoilt_rows > 8)


def test_without_a_row_it_is_refused() -> None:
    """An error that names rows, reasons and what to do."""
    rows = spoilt(examples(40), {i: {"quality": None} for i in range(40)})
    with pytest.raises(ReplayError) as caught:
        usable_rows(rows, TIERS)
    for part in ("none of 40 rows", "40 not graded: row-0", "35 more", "cascade grade RECORDING", "other tiers"):
        assert part in str(caught.value)


def test_few_names_the_first() -> None:
    """And counts the others."""
    assert preview(["a", "b"]) == "a, b"
    assert preview([]) == ""
    assert preview(list("abcdefg"), 3) == "a, b, c and 4 more"


def test_whole_rows_have_no_oddities() -> None:
    """The synthetic ones are as rows should be."""
    assert row_warnings(examples(60), TIERS) == []


def test_tasks_of_one_row_are_named() -> None:
    """They are in one split only; a recording of one such task cannot be evaluated."""
    rows = examples(30)
    rows[7] = replace(rows[7], task="rare")
    rows[9] = replace(rows[9], task="rarer")
    [meaning] = row_warnings(rows, TIERS)
    assert meaning == "2 tasks of a single row, which is in one split only: row-7, row-9"
    assert row_warnings(rows[7:8], TIERS) == []


def test_prompts_that_stand_twice_are_named() -> None:
    """Equal prompts under another system message are other questions."""
    rows = examples(30)
    rows[3], rows[4] = replace(rows[3], prompt=rows[0].prompt), replace(rows[4], prompt=rows[0].prompt, system="Be brief.")
    [meaning] = row_warnings(rows, TIERS)
    assert meaning.startswith("prompts that occur more than once: 1;")
    assert meaning.endswith(": row-0 = row-3")
    assert prompt_key(rows[0]) == prompt_key(rows[3]) != prompt_key(rows[4])


def test_equal_answers_with_unequal_grades_are_named() -> None:
    """The same text cannot be both right and wrong; space around it does not make it another."""
    rows = spoilt(examples(30), {5: {"text": " same", "quality": 1.0}})
    rows = spoilt(rows, {5: {"text": "same\n", "quality": 0.0}}, "dear")
    [meaning] = row_warnings(rows, TIERS)
    assert meaning == "one and the same answer is graded differently for two models in 1 row: row-5"


def test_free_tiers_and_a_wrong_order_are_named() -> None:
    """A model that costs nothing may be meant; a premium tier that costs less than another seldom is."""
    [free] = row_warnings(examples(10, cheap={"cost_usd": 0.0}), TIERS)
    assert free.startswith("every answer of cheap costs 0")
    [order] = row_warnings(examples(10), ["dear", "middle", "cheap"])
    assert order.startswith("dear, middle cost more than cheap, which is taken for the premium tier")
    assert "--tiers, cheapest first" in order


def test_judges_are_what_the_recording_can_feed() -> None:
    """Rules always; a schema, log-probabilities, verifier verdicts and samples where there are some; cheapest first."""
    assert default_judges(examples(4), "dear") == [{"use": "rules"}]
    assert default_judges(examples(4), "cheap") == [{"use": "rules"}, {"use": "logprob"}]
    rich = {"samples": [{"text": "x", "quality": 1.0}] * 3, "verdicts": {"verifier": 0.5}, "token_logprobs": [-0.1]}
    rows = [replace(e, schema={"type": "object"}) for e in examples(4, dear=rich)]
    assert default_judges(rows, "dear") == [
        {"use": "schema"},
        {"use": "rules"},
        {"use": "logprob"},
        {"use": "verifier"},
        {"use": "self_consistency", "samples": 3},
    ]


@pytest.mark.parametrize(
    ("samples", "options", "second"),
    [
        (4, {"samples": 4}, False),
        (5, {"samples": 5}, True),
        (9, {"samples": 9}, True),
        (10, {"samples": 10, "stop_at": 0.99}, True),
        (40, {"samples": MOST_SAMPLES, "stop_at": 0.99}, True),
    ],
)
def test_many_samples_give_a_second_plan(samples: int, options: dict[str, Any], second: bool) -> None:
    """Above four, four are tried too; from ten on sampling stops later."""
    rows = examples(5, dear={"samples": [{"text": "x", "quality": 1.0}] * samples})
    plans = judge_plans(rows, "dear")
    assert plans[0] == [{"use": "rules"}, {"use": "self_consistency", **options}]
    assert plans[1:] == ([[{"use": "rules"}, {"use": "self_consistency", "samples": 4}]] if second else [])


def test_named_judges_with_options() -> None:
    """Options are numbers, true or false, or text; self-consistency is left out where a tier has no samples."""
    rows = examples(3, cheap={"samples": [{"text": "x", "quality": 1.0}]})
    names = ["rules:min_length=2:refusals=false", "self_consistency:samples=5:stop_at=0.9:equivalence=text"]
    rules = [
        {"use": "rules", "min_length": 2, "refusals": False},
        {"use": "self_consistency", "samples": 5, "stop_at": 0.9, "equivalence": "text"},
    ]
    assert named_judges(names, rows, "cheap") == rules
    assert named_judges(names, rows, "dear") == rules[:1]
    assert named_judges([], rows, "dear") == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["logprop"], "--judges: 'logprop': unknown judge 'logprop'; did you mean 'logprob'?"),
        (["rules:min"], "write options as judge:option=value"),
        (["self_consistency:sampels=3"], "has no option 'sampels'; did you mean 'samples'?"),
        (["logprob", "rules", "logprob"], "--judges: 'logprob' is named twice"),
        (["self_consistency"], "needs recorded samples, and no tier has any"),
    ],
)
def test_judges_that_cannot_be(names: list[str], words: str) -> None:
    """The error names the flag, the judge and the nearest name, also where no tier would have used the judge."""
    with pytest.raises(ReplayError) as caught:
        check_judges(names, examples(3), TIERS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_judges_that_can_be() -> None:
    """Any known ones, each once."""
    check_judges(["rules", "logprob:statistic=min"], examples(3), TIERS)
    check_judges(["self_consistency"], examples(3, cheap={"samples": [{"text": "x", "quality": 1.0}]}), TIERS)


def test_tiers_must_be_models_of_the_recording() -> None:
    """An unknown one is named with its neighbours, one that is named twice with the ladder."""
    check_tiers(["dear", "cheap"], TIERS)
    with pytest.raises(ReplayError, match=r"has no model 'meddle'; nearest: middle, dear; it has: cheap, middle, dear"):
        check_tiers(["cheap", "meddle"], TIERS)
    with pytest.raises(ReplayError, match=r"has no model 'zzz'; it has"):
        check_tiers(["zzz"], TIERS)
    with pytest.raises(ReplayError, match="is named twice in the ladder cheap, dear, cheap"):
        check_tiers(["cheap", "dear", "cheap"], TIERS)
