"""The output of every importer: answers, skipped records, and the examples made of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.costs.prices import Price, list_price
from cascade.util.totals import total
from evals.common.answer_rows import answer_fields
from evals.common.notes import Notes
from evals.recording import Example, RecordingError
from evals.recording.join import ByPrompt, differing
from judges import Answer, Prompt, Usage
from judges.reading import read_answer
from judges.types import content_text

_BYTES_A_TOKEN = 4  # of English text, where a log has no counts
_SAMPLE = ("text", "quality", "finish_reason", "tool_calls", "latency_s")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the importers.

    ``score``: whose score is the quality, where there are several. ``filter``: lm-eval's. ``inputs``: the files that were
    sent as batches. ``reference``: the variable that holds promptfoo's right answer.
    ``max_bad``: the share of a log's records that may be unreadable.
    """

    score: str | None = None
    filter: str | None = None
    inputs: tuple[str, ...] = ()
    reference: str = "reference"
    max_bad: float = 0.1


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """One answer of ``model`` to an example (which has no answers yet), and what is known of it.

    ``provider`` is that of the price list, if the answer came from it, and ``discount`` what it took off its list price.
    ``more`` holds further fields of the recorded answer. ``notes`` say what was not taken over as it stood.
    """

    example: Example
    model: str
    answer: Answer
    quality: float | None = None
    provider: str | None = None
    discount: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record at ``where`` that a recording cannot hold, with the reason; ``count`` of them."""

    where: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a log's models in the recording, and their prices by that name.

    ``only`` is the name of a log's one model; ``models`` maps names of the log to others.
    """

    only: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)


def to_examples(
    items: Iterable[ImportedAnswer | Skipped], names: Names, notes: Notes, same: ByPrompt | None = None
) -> Iterator[Example]:
    """The examples of one log, each with its models' answers; a model's later answers to an example are its samples.

    The log's answers are held in memory. Raises RecordingError where one id has two prompts.
    """
    examples: dict[str, Example] = {}
    recorded: dict[str, dict[str, list[dict[str, Any]]]] = {}
    models: set[str] = set()
    for item in items:
        if isinstance(item, Skipped):
            notes.skip(item.reason, item.where, item.count)
            continue
        example = same(item.example) if same is not None else item.example
        first = examples.setdefault(example.id, example)
        if first.reference is None:
            first = examples[example.id] = replace(first, reference=example.reference)
        word = differing(first, example)
        if word is None and example.reference not in (None, first.reference):
            word = "reference"
        if word:
            raise RecordingError(
                f"id {example.id!r}: names two examples in one log, the second with another {word}; "
                "--match prompt distinguishes examples by prompt and reference"
            )
        models.add(item.model)
        if names.only is not None and len(models) > 1:
            raise RecordingError(f"holds the models {', '.join(sorted(models))}: rename them by --model OLD=NEW")
        model = names.only or names.models.get(item.model, item.model)
        recorded.setdefault(example.id, {}).setdefault(model, []).append(to_recorded(item, names.prices.get(model)))
        for note in item.notes:
            notes.note(note, f"{example.id} of {model}")
    notes.models |= models
    for id, example in examples.items():
        yield replace(example, answers={model: _with_samples(answers) for model, answers in recorded[id].items()})


def _with_samples(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first answer, the others as its samples."""
    first, *others = answers
    if not others:
        return first
    usd = total(one["cost_usd"] for one in others)
    price = {} if usd is None else {"sample_cost_usd": usd / len(others)}
    return {**first, "samples": [{k: one[k] for k in _SAMPLE if k in one} for one in others], **price}


def to_recorded(item: ImportedAnswer, price: Price | None) -> dict[str, Any]:
    """The answer as a recording holds it.

    Its cost is by ``price`` where one was given, else what the log says, else by the published list. With a price, tokens
    that the log has not counted are estimated from the texts.
    """
    answer, estimated = read_answer(item.answer), {}
    if answer.usage is None and price is not None:
        answer = replace(answer, usage=_estimate(item.example.to_prompt(), answer.text))
        estimated = {"usage_estimated": True}
    fields = answer_fields(answer, _usd(item, answer.usage, price), answer.latency_s)
    return {**fields, "quality": item.quality, **estimated, **item.more}


def _usd(item: ImportedAnswer, usage: Usage | None, price: Price | None) -> float | None:
    if usage is not None and price is not None:
        return price.cost(usage)
    if item.answer.cost_usd is not None or usage is None or item.provider is None:
        return item.answer.cost_usd
    listed = list_price(item.provider, item.answer.model, usage)
    return None if listed is None else listed * (1 - item.discount)


def _estimate(prompt: Prompt, text: str) -> Usage:
    split_messages = sum(len(content_text(m.get("content")).encode()) for m in prompt.messages)
    return Usage(split_messages // _BYTES_A_TOKEN + 1, len(text.encode()) // _BYTES_A_TOKEN + 1)


def split_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[str | list[Mapping[str, Any]], str | None]:
    """Chat messages as an example's prompt and system message: as text where they are one user's text."""
    rest = list(messages)
    system = None
    if len(rest) > 1 and rest[0]["role"] == "system" and isinstance(rest[0]["content"], str):
        system = rest.pop(0)["content"]
    if len(rest) == 1 and rest[0]["role"] == "user" and isinstance(rest[0]["content"], str):
        return rest[0]["content"], system
    return list(messages), None


def unit_score(value: Any) -> float | None:
    """A score in [0, 1], with true and false as 1 and 0; None for anything else."""
    if not isinstance(value, bool | int | float) or not 0.0 <= value <= 1.0:
        return None
    return float(value)
