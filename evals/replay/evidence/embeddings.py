"""The embeddings of a recording's prompts: asked for once, and kept in a file beside the recording.

A line for each text, by the hash of its content: an interrupted replay continues where it stopped, and nothing is paid
twice. Texts themselves are not kept.
"""

import asyncio
import base64
import fcntl
import hashlib
import json
import os
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cascade.costs.estimate import Bounds
from cascade.costs.prices import Pricer
from cascade.models.embeddings import EMBEDDING, vector_of
from cascade.models.factory import build_embeddings
from cascade.models.protocol import Model, ModelError, Request
from cascade.policy.schema import EmbeddingSpec, ModelSpec
from cascade.resilience.guard import Guard, Retry
from cascade.resilience.retry import call_with_retries
from evals.common.cost_budget import CostBudget, OutOfMoneyError
from evals.common.progress import Progress
from evals.recording import Example
from evals.replay.rows.input_rows import ReplayError
from judges import Answer, Prompt, Usage
from judges.prompt import embedded_text

AT_ONCE = 8
"""Requests under way, where the model's settings do not say how many may be."""
ATTEMPTS = 5


class EmbeddingCache:
    """Embeddings of one model on disk, by the hash of their text; of processes that share the file one writes at a time.

    Args:
        recording: The recording's path; the file is in the folder ``.cascade`` beside it, or in the user's cache folder.
        model: The model, as its provider names it.
        dimensions: How many numbers an embedding has.
        server: The server's address; None: the provider's own.
    """

    def __init__(self, recording: str | os.PathLike[str], model: str, dimensions: int, server: str | None = None) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        identity = json.dumps([model, dimensions, server])
        self.dimensions = dimensions
        self.name = f"embeddings-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
        self.folders = (Path(recording).resolve().parent / ".cascade", home / "cascade-gate")

    def load(self) -> dict[str, Answer]:
        """What is kept, by the hash of its text; lines that are cut short or damaged are left out."""
        stored: dict[str, Answer] = {}
        for folder in self.folders:
            with suppress(OSError), open(folder / self.name, "rb") as file:
                for line in file:
                    with suppress(ValueError, KeyError, TypeError):
                        entry = json.loads(line)
                        stored[entry["text"]] = self._answer(entry)
        return stored

    def _answer(self, entry: Mapping[str, Any]) -> Answer:
        numbers = array("f")
        numbers.frombytes(base64.b64decode(entry["embedding"], validate=True))
        if sys.byteorder == "big":
            numbers.byteswap()
        vector = vector_of(numbers, self.dimensions)
        if vector is None:
            raise ValueError("not an embedding")
        tokens, usd = entry["tokens"], entry["cost_usd"]
        usage = None if tokens is None else Usage(int(tokens), 0)
        return Answer("", usage=usage, cost_usd=usd, latency_s=float(entry["latency_s"]), extra={EMBEDDING: vector})

    @contextmanager
    def writer(self) -> "Iterator[EmbeddingWriter]":
        """Opens the file for appending, and waits until no other process does. Raises ReplayError."""
        for folder in self.folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                fd = os.open(folder / self.name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield EmbeddingWriter(fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            return
        raise ReplayError(
            f"embeddings cannot be kept in {' or '.join(map(str, self.folders))}, so that they would be paid for again; "
            "make one of these folders writable"
        )


class EmbeddingWriter:
    """Appends embeddings to an open file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # a line that a crash cut short
            os.write(fd, b"\n")

    def append(self, digest: str, answer: Answer) -> None:
        """Writes one line. Raises OSError."""
        numbers = array("f", answer.extra[EMBEDDING])
        if sys.byteorder == "big":
            numbers.byteswap()
        entry = {
            "text": digest,
            "tokens": None if answer.usage is None else answer.usage.input_tokens,
            "cost_usd": answer.cost_usd,
            "latency_s": answer.latency_s,
            "embedding": base64.b64encode(numbers.tobytes()).decode("ascii"),
        }
        os.write(self._fd, json.dumps(entry).encode() + b"\n")


def digest_of(text: str) -> str:
    """The hash by which a text's embedding is kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def read_embeddings(
    recording: str | os.PathLike[str],
    examples: Sequence[Example],
    embedding: EmbeddingSpec,
    spec: ModelSpec,
    *,
    max_usd: float | None = None,
) -> dict[str, Answer]:
    """The embeddings of the examples' prompts by their texts, with cost and latency; those not kept are asked for.

    Args:
        recording: The recording's path.
        examples: Its rows; blank prompts have no embedding.
        embedding: The policy's embedding.
        spec: The settings of its model.
        max_usd: The most that the requests may cost; None: any amount.

    Raises:
        ReplayError: The server fails, the price is unknown, or ``max_usd`` is reached; what the server gave before is kept.
        PolicyError: The key of the model is not set.
    """
    texts = {digest_of(text): text for example in examples if (text := embedded_text(example.to_prompt()))}
    cache = EmbeddingCache(recording, spec.model or embedding.model, embedding.dimensions, spec.base_url)
    pricer = Pricer(embedding.model, spec)
    if pricer.cost(Usage(1, 0)) is None and not spec.cost_from_provider:
        raise ReplayError(
            f"embedding: the price of the model {embedding.model!r} is not known, so that no cost of a cascade would be; "
            f"give models.{embedding.model}.price"
        )
    if pricer.cost(Usage(1, 0)) is None and max_usd is not None:
        raise ReplayError(
            f"--max-usd: the price of the model {embedding.model!r} is not known before the provider states a cost; give "
            f"models.{embedding.model}.price"
        )
    stored = cache.load()
    if texts.keys() - stored.keys():
        with cache.writer() as writer:
            stored = cache.load()  # another process may have added to it
            absent = {digest: text for digest, text in texts.items() if digest not in stored}
            model = build_embeddings(
                embedding.model, spec, embedding.dimensions, requests_dimensions=embedding.request_dimensions
            )
            try:
                stored |= await _embed(model, absent, writer, spec, pricer, max_usd=max_usd)
            finally:
                await model.close()
    return {text: _priced(stored[digest], pricer) for digest, text in texts.items()}


def _priced(answer: Answer, pricer: Pricer) -> Answer:
    usd = answer.cost_usd if answer.cost_usd is not None else pricer.cost(answer.usage)
    if usd is None:
        raise ReplayError(f"embedding: the server of {pricer.name!r} did not count tokens, so that its cost is unknown")
    return Answer("", usage=answer.usage, cost_usd=usd, latency_s=answer.latency_s, extra=answer.extra)


async def _embed(
    model: Model,
    texts: Mapping[str, str],
    writer: EmbeddingWriter,
    spec: ModelSpec,
    pricer: Pricer,
    *,
    max_usd: float | None,
) -> dict[str, Answer]:
    """Asks for embeddings and keeps each as it arrives. Raises ReplayError at the first that fails for good."""
    retry = Retry(**{**spec.retry.model_dump(), "attempts": max(ATTEMPTS, spec.retry.attempts)})
    guard = Guard.of(
        retry=retry, max_concurrency=spec.max_concurrency or AT_ONCE, requests_per_s=spec.requests_per_s, name=model.name
    )
    progress, results = Progress(len(texts), "embedding"), dict[str, Answer]()
    budget, bounds = CostBudget(max_usd), Bounds.of(spec)

    async def one(digest: str, text: str) -> None:
        prompt = Prompt.of(text)

        async def send() -> Answer:
            started = perf_counter()
            (answer,) = await model.answer(prompt, Request())
            seconds = perf_counter() - started
            rounded = array("d", array("f", answer.extra[EMBEDDING]))  # as it is read again
            return Answer("", usage=answer.usage, cost_usd=answer.cost_usd, latency_s=seconds, extra={EMBEDDING: rounded})

        most = 0.0
        if max_usd is not None:
            tokens = bounds.usage(prompt, n=1, max_tokens=1).input_tokens
            most = pricer.cost(Usage(tokens, 0)) or 0.0
        await budget.reserve(most)
        paid = most  # of a request that fails, what it cost is unknown
        try:
            answer = results[digest] = await call_with_retries(guard, model.name, send, None)
            writer.append(digest, answer)
            usd = answer.cost_usd if answer.cost_usd is not None else pricer.cost(answer.usage)
            paid = most if usd is None else usd
        finally:
            budget.settle(most, paid)
        progress.step()

    pending = {asyncio.create_task(one(digest, text)) for digest, text in texts.items()}
    try:
        for task in asyncio.as_completed(pending):
            await task
    except OutOfMoneyError:
        await _cancelled(pending)
        raise ReplayError(
            f"stopped before the embeddings cost more than --max-usd {max_usd:g}: {len(results):,} of {len(texts):,} are "
            f"kept, for ${budget.spent:.6f}; run the command again to go on, or with a higher --max-usd"
        ) from None
    except ModelError as error:
        await _cancelled(pending)
        raise ReplayError(
            f"embedding: {error}; {len(results):,} of {len(texts):,} embeddings are kept; run the command again to go on"
        ) from None
    finally:
        progress.end()
    return results


async def _cancelled(pending: "set[asyncio.Task[None]]") -> None:
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def as_columns(examples: Sequence[Example], by_text: Mapping[str, Answer], model: str, dimensions: int) -> dict[str, Any]:
    """The fields of ``EmbeddingColumns``, row by row; a blank prompt has a vector of zeros, which costs nothing."""
    vectors = np.zeros((len(examples), dimensions))
    usd, latency = np.zeros(len(examples)), np.zeros(len(examples))
    for i, example in enumerate(examples):
        answer = by_text.get(embedded_text(example.to_prompt()))
        if answer is not None:
            vectors[i] = answer.extra[EMBEDDING]
            usd[i], latency[i] = answer.cost_usd or 0.0, answer.latency_s or 0.0
    return {"model": model, "vectors": vectors, "usd": usd, "latency_s": latency}
