"""Which prompts a predictor is not used for: those of other applications, tasks and languages, and few others."""

import random

import numpy as np
import pytest

from cascade.data import STARTER_RECORDING
from cascade.policy.predictor import Predictor, from_json
from evals.recording import Example, read
from evals.replay.prompt_predictor import UNLIKE, PromptTable, prompt_table, required_shape
from judges import Prompt
from judges.prompt import features

ROWS = list(read(STARTER_RECORDING))
TASKS = np.array([row.task for row in ROWS])
TABLE = prompt_table(ROWS)
FOREIGN = (
    "Welche Stadt ist die Hauptstadt von Frankreich und wie viele Menschen wohnen dort ungefähr",
    "Bitte erkläre mir kurz den Unterschied zwischen den beiden Verfahren",
    "Una granja tiene 20 gallinas y cada una pone 3 huevos. Cuántos huevos hay en total",
    "Какой город является столицей Франции",
    "法国的首都是哪里",
)


def predictor_of(table: PromptTable, rows: np.ndarray, seed: int = 0) -> Predictor:
    """A predictor of whether a prompt is long, which a fit always finds."""
    length = np.array([f.length for f in table.features], dtype=float)
    predictor = table.fit((length > np.median(length[rows])).astype(float), rows, seed).predictor
    assert predictor is not None
    return predictor


def out_of_range(predictor: Predictor, table: PromptTable, rows: np.ndarray) -> float:
    """The share of the rows for which a predictor is not used."""
    return float(np.mean([predictor.probability(table.features[i]) is None for i in rows]))


def test_prompts_like_the_recording_are_seldom_out_of_range() -> None:
    """At most one in twenty of the rows that were not fitted on."""
    shares = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(ROWS))
        shares.append(out_of_range(predictor_of(TABLE, np.sort(order[:150]), seed), TABLE, order[150:]))
    assert np.mean(shares) <= 0.05


@pytest.mark.parametrize("task", sorted(set(TASKS)))
def test_a_task_that_was_not_recorded_is_out_of_range(task: str) -> None:
    """Whatever task is left out of the rows, its prompts are unlike them."""
    rows = np.random.default_rng(1).permutation(np.flatnonzero(task != TASKS))[:150]
    assert out_of_range(predictor_of(TABLE, np.sort(rows)), TABLE, np.flatnonzero(task == TASKS)) >= 0.9


def test_nonsense_and_other_languages_are_out_of_range() -> None:
    """Even where all else about the request is as in the recording."""
    letters, rng = "abcdefghijklmnopqrstuvwxyz", random.Random(0)
    texts = [" ".join("".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(12)) + "?" for _ in range(40)]
    rows = np.flatnonzero(np.isin(TASKS, ("arithmetic", "date", "words", "fact")))
    predictor = predictor_of(TABLE, rows)
    for group in (texts, FOREIGN):
        prompts = []
        for i, text in enumerate(group):
            messages = [dict(message) for message in ROWS[rows[(11 * i) % len(rows)]].to_prompt().messages]
            messages[-1]["content"] = text
            prompts.append(features(Prompt.of(messages)))
        assert np.mean([predictor.probability(prompt) is None for prompt in prompts]) >= 0.9


def test_a_request_of_another_shape_is_out_of_range() -> None:
    """Tools, images, a system prompt or a schema that no row has."""
    table = prompt_table([Example(f"e{i}", f"How many {'large ' * (i % 2)}apples are in box {i}?", {}) for i in range(80)])
    predictor = predictor_of(table, np.arange(80))
    text = "How many apples are in box 7?"
    assert predictor.probability(features(Prompt.of(text))) is not None
    tool = {"type": "function", "function": {"name": "count", "parameters": {}}}
    for other in (
        Prompt.of(text, tools=[tool]),
        Prompt.of(text, system="Guess."),
        Prompt.of(text, schema={"type": "object"}),
    ):
        assert predictor.probability(features(other)) is None


def test_what_changes_from_prompt_to_prompt_is_not_required() -> None:
    """The first message of real conversations is another in each; their number of turns is not."""
    prompts = [
        Prompt.of([{"role": "user", "content": f"Topic {i}"}, {"role": "user", "content": "And?"}]) for i in range(60)
    ]
    shape = required_shape([features(prompt) for prompt in prompts])
    assert "opening" not in shape
    assert {"turns", "system", "images", "tools", "schema"} <= set(shape)


@pytest.mark.parametrize("seed", range(3))
def test_few_prompts_have_a_new_shape(seed: int) -> None:
    """Where values of a property have a long tail, what is required holds for nearly all further prompts."""
    rng = np.random.default_rng(seed)
    prompts = [features(Prompt.of("Hello", system=f"You are helper {rng.zipf(1.6)}.")) for _ in range(600)]
    shape = required_shape(prompts[:300])
    shapes = {f.properties for f in prompts[:300]}
    if "system" in shape:
        assert np.mean([f.properties not in shapes for f in prompts[300:]]) <= 3 * UNLIKE


def test_the_task_of_the_caller_is_a_feature_where_callers_name_one() -> None:
    """A task that was not recorded, or none, is unlike the recording; without tags in it a tag changes nothing."""
    examples = [Example(f"e{i}", f"Please look at item {i}", {}, task="easy" if i % 2 else "hard") for i in range(120)]
    right = np.array([float(i % 2) for i in range(120)])
    plain, tagged = prompt_table(examples), prompt_table(examples, [example.task for example in examples])
    rows, prompt = np.arange(120), Prompt.of("Please look at item 7")
    assert plain.fit(right, rows, 0).predictor is None  # the text says nothing
    predictor = tagged.fit(right, rows, 0).predictor
    assert predictor is not None
    assert predictor.reads_task
    again = from_json(predictor.to_json())
    easy, hard = (again.probability(features(prompt, task)) for task in ("easy", "hard"))
    assert easy is not None
    assert hard is not None
    assert easy > 0.8 > 0.2 > hard
    assert again.probability(features(prompt, "other")) is None
    assert again.probability(features(prompt)) is None


def test_a_task_of_its_own_for_each_prompt_is_no_feature() -> None:
    """Such tags say nothing of further prompts."""
    examples = [Example(f"e{i}", f"How many {'large ' * (i % 2)}apples are there?", {}) for i in range(80)]
    table = prompt_table(examples, [f"ticket {i}" for i in range(80)])
    predictor = predictor_of(table, np.arange(80))
    assert not predictor.reads_task
    assert predictor.probability(features(examples[0].to_prompt())) is not None
