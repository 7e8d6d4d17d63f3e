"""A model that answers from a recording: nothing is asked, nothing is paid, everything is reproducible."""

import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cascade.data import STARTER_RECORDING
from cascade.errors import PolicyError
from cascade.util.bounded_read import UnreadableFileError, read_lines
from judges import Answer, Prompt, TokenLogprob, Usage
from judges.reading import read_answer

from .protocol import Chunk, ModelError, Request, chunk_by_word

Recorded = Mapping[str, Any]


class NotRecordedError(ModelError):
    """The recording does not hold what was asked, so nothing was used; the message names an id or a hash, not the text."""

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message, model=model, usage=Usage())


class RecordedModel:
    """Implements Model from recorded answers.

    ``name`` is the policy's name, ``model`` the key under ``answers`` in the recording. ``answers`` maps an example's id to
    its recorded answer, ``by_text`` the key of its messages (``prompt_key``) to its id, for prompts that carry no id.
    """

    def __init__(
        self, name: str, model: str, answers: Mapping[str, Recorded], by_text: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.model = name, model
        self._by_text: Mapping[str, str] = by_text or {}
        # Built once: a replay asks for the same answers many times over, and Answer is frozen.
        self._answers = {id: ((_answer(rec, model),), rec) for id, rec in answers.items()}
        self._samples: dict[str, tuple[Answer, ...]] = {}

    @classmethod
    def from_file(cls, name: str, model: str, path: str | os.PathLike[str]) -> "RecordedModel":
        """The model ``model`` of a recording; ``"starter"`` is the shipped one.

        Models of the same file share one parse. Raises PolicyError where the file cannot be read or lacks the model.
        """
        file = STARTER_RECORDING if path == "starter" else Path(path)
        try:
            rows, by_text = _load(str(file), file.stat().st_mtime_ns)
        except OSError as error:
            raise PolicyError(f"{file}: the recording cannot be read: {error.strerror or error}") from None
        answers = {id: recorded[model] for id, recorded in rows.items() if model in recorded}
        if not answers:
            models = sorted({m for recorded in rows.values() for m in recorded})
            raise PolicyError(f"{file}: holds no answers of the model {model!r}; it has: {', '.join(models) or 'none'}")
        return cls(name, model, answers, by_text)

    @cached_property
    def max_cost_usd(self) -> float | None:
        """USD of the most expensive recorded answer or sample; None where one of them is not known."""
        costs = [rec.get("cost_usd") for _, rec in self._answers.values()]
        for _, rec in self._answers.values():
            costs += [answer.cost_usd for answer in _samples(rec, self.model)]
        known_costs = [usd for usd in costs if usd is not None]
        return max(known_costs, default=0.0) if len(known_costs) == len(costs) else None

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """The recorded answer, or the recorded samples from ``sample_offset`` on (none where they are used up).

        Raises NotRecordedError.
        """
        id = self._id(prompt)
        record = self._answers.get(id)
        if record is None:
            raise self._missing(prompt)
        if not request.sample:
            return record[0]
        samples = self._samples.get(id)
        if samples is None:
            samples = self._samples[id] = _samples(record[1], self.model)
        return samples[request.sample_offset : request.sample_offset + request.n]

    def recorded_cost(self, prompt: Prompt) -> float | None:
        """USD of the recorded answer, without asking for it; None where there is none or its cost is unknown."""
        record = self._answers.get(self._id(prompt))
        return None if record is None else record[0][0].cost_usd

    async def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """See StreamingModel: the recorded answer, a word at a time and all at once. Raises NotRecordedError."""
        (answer,) = await self.answer(prompt, request)
        for chunk in chunk_by_word(answer):
            yield chunk

    async def close(self) -> None:
        """Nothing to close."""

    def _id(self, prompt: Prompt) -> str:
        id = prompt.id or ""
        if id not in self._answers and self._by_text:
            return self._by_text.get(prompt_key(prompt.messages), "")
        return id

    def _missing(self, prompt: Prompt) -> NotRecordedError:
        what = f"the id {prompt.id!r}" if prompt.id is not None else f"the prompt {prompt_key(prompt.messages)[:12]}"
        return NotRecordedError(
            f"{self.name}: {what} is not among the {len(self._answers)} recorded answers of {self.model!r}; "
            "ask a recorded prompt word for word, or use a live model",
            model=self.name,
        )


def prompt_key(messages: Sequence[Mapping[str, Any]]) -> str:
    """A hash of the messages' roles and contents: the same for the same conversation, whatever its id."""
    parts = [[m.get("role"), m.get("content")] for m in messages]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


_Rows = dict[str, dict[str, Recorded]]


@lru_cache(maxsize=4)
def _load(path: str, mtime_ns: int) -> tuple[_Rows, dict[str, str]]:
    """The answers of a recording by id and model, and the ids by prompt; ``mtime_ns`` makes a changed file load again."""
    rows: _Rows = {}
    by_text: dict[str, str] = {}
    number = 0
    try:
        for line in read_lines(path):
            number += 1
            if line.strip():
                row = json.loads(line)
                prompt = Prompt.of(row["prompt"], system=row.get("system"))
                rows[row["id"]] = row["answers"]
                by_text.setdefault(prompt_key(prompt.messages), row["id"])
    except UnreadableFileError as error:
        raise PolicyError(str(error)) from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise PolicyError(f"{path}:{number}: not a line of a recording: {type(error).__name__}: {error}") from None
    return rows, by_text


def _answer(rec: Recorded, model: str) -> Answer:
    usage = rec.get("usage")
    tokens = rec.get("token_logprobs")
    texts = rec.get("tokens") or ()
    logprobs = None
    if tokens is not None:
        has_texts = len(texts) == len(tokens)
        logprobs = tuple(TokenLogprob(texts[i] if has_texts else "", min(0.0, lp)) for i, lp in enumerate(tokens))
    mean = rec.get("logprob")
    extra: dict[str, Any] = {"quality": rec.get("quality")}
    if rec.get("verdict_cost_usd"):
        extra["verdict_cost_usd"] = rec["verdict_cost_usd"]
    answer = Answer(
        text=rec["text"],
        tool_calls=tuple(rec.get("tool_calls") or ()),
        finish_reason=rec.get("finish_reason"),
        logprobs=logprobs,
        mean_logprob=None if mean is None else min(0.0, mean),
        first_token_top=rec.get("first_token_top"),
        usage=_usage(usage) if usage else None,
        model=model,
        cost_usd=rec.get("cost_usd"),
        latency_s=rec.get("latency_s"),
        verdicts=rec.get("verdicts") or {},
        extra=extra,
        reasoning=rec.get("reasoning"),
        refusal=rec.get("refusal"),
    )
    return read_answer(answer)


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        usage.get("input_tokens") or 0,
        usage.get("output_tokens") or 0,
        cached_tokens=usage.get("cached_tokens") or 0,
        cache_write_tokens=usage.get("cache_write_tokens") or 0,
        cache_write_1h_tokens=usage.get("cache_write_1h_tokens") or 0,
        reasoning_tokens=usage.get("reasoning_tokens") or 0,
    )


def _samples(rec: Recorded, model: str) -> tuple[Answer, ...]:
    each = rec.get("sample_cost_usd")
    return tuple(
        read_answer(
            Answer(
                text=sample["text"],
                tool_calls=tuple(sample.get("tool_calls") or ()),
                finish_reason=sample.get("finish_reason"),
                model=model,
                cost_usd=sample.get("cost_usd") if each is None else each,
                latency_s=sample.get("latency_s"),
                extra={"quality": sample.get("quality")},
            )
        )
        for sample in rec.get("samples") or ()
    )
