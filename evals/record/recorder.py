"""Sends every row to every model, as many at once as the rate limit allows; stores each answer at once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Unpack

from cascade.models.protocol import Request
from cascade.util.totals import total
from evals.common.answer_rows import answer_defect, answer_fields, join_parts, sample_fields, to_answer
from evals.common.types import ANSWER, SAMPLES
from evals.recording import Example
from judges import Answer, AskOptions, Prompt
from judges.fusion import fusion_prompt
from judges.protocol import JudgeInput

from .checkpoint import Checkpoint
from .client import AnswerSource, Reply, RequestFailedError, StoppedError, StopSignal
from .dataset import Dataset
from .fused_answers import gather_candidates
from .plan import FusedModels, Target

_SYNC_EVERY_S = 1.0


@dataclass(slots=True, kw_only=True)
class Recorder:
    """One run of a recording.

    Attributes:
        dataset: The rows.
        targets: The models to record.
        clients: The clients by the model's name in the policy file; judges may need further models.
        checkpoint: The open work file.
        stop_signal: Stops the run.
        limit: Record the first rows only.
        retry_failed: Whether to repeat what failed in an earlier run.
        present: By a model's key in the recording, for each row, whether the dataset already has its answer.
        sample_with_answer: Whether to request samples together with the answer, as a batch needs.
        step: Called for each row and model that is complete.
        error: The error of a full disk, which ends the run.
        model_numbers: The models' numbers in the work file.
        defects: This run's answers by model and ``answer_defect``.
    """

    dataset: Dataset
    targets: Sequence[Target]
    clients: Mapping[str, AnswerSource]
    checkpoint: Checkpoint
    stop_signal: StopSignal
    limit: int | None = None
    retry_failed: bool = False
    sample_with_answer: bool = False
    present: Mapping[str, bytearray] = field(default_factory=dict)
    step: Callable[[], None] = lambda: None
    error: OSError | None = None
    model_numbers: dict[str, int] = field(default_factory=dict)
    defects: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.model_numbers = {t.key: self.checkpoint.model_index(t.key) for t in self.targets}

    @property
    def rows(self) -> int:
        """How many rows are recorded."""
        rows = self.checkpoint.survey.rows
        return rows if self.limit is None else min(rows, self.limit)

    def is_complete(self, target: Target, row: int) -> bool:
        """Whether the row needs no more requests to the model."""
        checkpoint, model = self.checkpoint, self.model_numbers[target.key]
        if target.key in self.present and self.present[target.key][row]:
            return True
        if not checkpoint.has_parts(row, model):
            return False
        if checkpoint.any_failed(row, model):
            if self.retry_failed:
                return False
            if checkpoint.part_failed(row, model, ANSWER):
                return True
        there = [(ANSWER, checkpoint.has_part(row, model, ANSWER))]
        if target.samples:
            there.append((SAMPLES, checkpoint.sample_count(row, model) >= target.samples))
        there += [(r.judge.name, checkpoint.has_part(row, model, r.judge.name)) for r in target.judges]
        return all(ok or checkpoint.part_failed(row, model, part) for part, ok in there)

    def count_missing(self) -> int:
        """How many pairs of row and model are incomplete."""
        return sum(not self.is_complete(t, row) for t in self.targets for row in range(self.rows))

    async def run(self, workers: int) -> None:
        """Records until everything is complete or the run is stopped.

        Args:
            workers: How many rows of one model are recorded at once.

        Raises:
            OSError: An answer could not be stored.
        """
        background = [asyncio.create_task(self._run_background(client.run)) for client in self.clients.values()]
        background.append(asyncio.create_task(self._run_background(self._sync)))
        try:
            async with asyncio.TaskGroup() as group:
                for target in self.targets:
                    rows_to_ask = self._incomplete_rows(target)
                    for _ in range(min(workers, self.rows)):
                        group.create_task(self._run_worker(target, rows_to_ask))
        finally:
            for task in background:
                task.cancel()
            ended = await asyncio.gather(*background, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        if self.error is not None:
            raise self.error

    async def _run_background(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except OSError as error:
            self.error = self.error or error
            self.stop("disk")
        except Exception:
            self.stop("error")
            raise

    def stop(self, reason: str) -> None:
        """Sends no more requests; those under way are awaited."""
        self.stop_signal.stop(reason)
        for client in self.clients.values():
            client.release()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            await asyncio.to_thread(self.checkpoint.sync)

    def _incomplete_rows(self, target: Target) -> Iterator[tuple[int, Example]]:
        """The incomplete rows; all workers of a model share one iterator."""
        for row, example in enumerate(islice(self.dataset, self.rows)):
            if not self.is_complete(target, row):
                yield row, example

    async def _run_worker(self, target: Target, rows_to_ask: Iterator[tuple[int, Example]]) -> None:
        client = self.clients[target.name]
        while self.stop_signal.reason is None and client.stopped is None:
            next_row = next(rows_to_ask, None)
            if next_row is None:
                return
            try:
                await _RowRecorder(self, target, *next_row).run()
            except StoppedError:
                if self.stop_signal.reason is not None:
                    self.stop(self.stop_signal.reason)
            except OSError as error:
                self.error = self.error or error
                self.stop("disk")
            if self.checkpoint.log.full:
                self.stop("disk")


class _RowRecorder:
    """Records everything of one row and model."""

    def __init__(self, recorder: Recorder, target: Target, row: int, example: Example) -> None:
        self.recorder, self.target, self.row = recorder, target, row
        self.client, self.model = recorder.clients[target.name], recorder.model_numbers[target.key]
        self.prompt = example.to_prompt()

    async def run(self) -> None:
        """Requests what is missing. Raises StoppedError, OSError."""
        checkpoint, row, model = self.recorder.checkpoint, self.row, self.model
        fields = join_parts(checkpoint.parts(row, model)) if checkpoint.has_parts(row, model) else None
        wants_samples = checkpoint.sample_count(row, model) < self.target.samples and self._should_ask(SAMPLES)
        if fields is None and wants_samples and self.recorder.sample_with_answer:
            answer, _ = await asyncio.gather(self._record_answer(), self._record_samples())
        else:
            answer = to_answer(fields, self.client.model.name) if fields is not None else await self._record_answer()
            if answer is not None and wants_samples:
                await self._record_samples()
        if answer is not None:
            for each in self.target.judges:
                name = each.judge.name
                if not checkpoint.has_part(row, model, name) and self._should_ask(name):
                    await _JudgeCalls(self, answer).run(each.judge)
        if self.recorder.is_complete(self.target, row):
            self.recorder.step()

    def _should_ask(self, part: str) -> bool:
        return self.recorder.retry_failed or not self.recorder.checkpoint.part_failed(self.row, self.model, part)

    async def _record_answer(self) -> Answer | None:
        if not self._should_ask(ANSWER):
            return None
        if self.target.fuse is not None:
            return await self._record_fused(self.target.fuse)
        try:
            reply = await self.client.ask(self.prompt, Request())
        except RequestFailedError as error:
            self.store_failure(ANSWER, error)
            return None
        if not reply.answers:
            self.store_failure(ANSWER, RequestFailedError("no answer", "the reply held no answer", 1), [reply])
            return None
        answer = reply.answers[0]
        self.store(ANSWER, 1, reply.usd, answer_fields(answer, reply.usd, reply.latency_s), [reply])
        self.recorder.defects[self.target.key, answer_defect(answer, self.target.spec.logprobs)] += 1
        return answer

    async def _record_fused(self, fuse: FusedModels) -> Answer | None:
        """The answer that the model writes from its candidates; its cost and latency are those of all together."""
        candidates = await gather_candidates(self.recorder, fuse, self.row, self.prompt)
        spent = list(candidates.replies)
        try:
            reply = await self.client.ask(fusion_prompt(self.prompt, candidates.answers), Request())
        except RequestFailedError as error:
            self.store_failure(ANSWER, error, spent)
            return None
        spent.append(reply)
        if not reply.answers:
            self.store_failure(ANSWER, RequestFailedError("no answer", "the reply held no answer", 1), spent)
            return None
        answer = reply.answers[0]
        seconds = total([candidates.latency_s, reply.latency_s])
        fields = answer_fields(answer, total([candidates.usd, reply.usd]), None if seconds is None else round(seconds, 6))
        fields["fuse"] = {"models": list(fuse.keys), "samples": fuse.samples}
        self.store(ANSWER, 1, total(each.usd for each in spent), fields, spent)
        self.recorder.defects[self.target.key, answer_defect(answer, self.target.spec.logprobs)] += 1
        return answer

    async def _record_samples(self) -> None:
        """Requests the missing samples: in one request where the model supports it, otherwise concurrently."""
        missing = self.target.samples - self.recorder.checkpoint.sample_count(self.row, self.model)
        if self.target.supports_n:
            while missing > 0 and (added := await self._record_sample_batch(missing)):
                missing -= added
            return
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._record_one_sample()) for _ in range(missing)]
        for task in tasks:
            if (error := task.result()) is not None:
                raise error

    async def _record_one_sample(self) -> StoppedError | OSError | None:
        """One sample. Returns an error that ends the run, so that the other samples, already paid for, are kept."""
        try:
            await self._record_sample_batch(1)
        except (StoppedError, OSError) as error:
            return error
        return None

    async def _record_sample_batch(self, n: int) -> int:
        request = Request(
            n=n,
            temperature=self.target.temperature,
            sample=True,
            sample_offset=self.recorder.checkpoint.sample_count(self.row, self.model),
        )
        try:
            reply = await self.client.ask(self.prompt, request)
        except RequestFailedError as error:
            self.store_failure(SAMPLES, error)
            return 0
        if not reply.answers:
            self.store_failure(
                SAMPLES, RequestFailedError("too few samples", "the model gave no further sample", 1), [reply]
            )
            return 0
        samples = [sample_fields(a, reply.latency_s) for a in reply.answers[:n]]
        self.store(SAMPLES, len(samples), reply.usd, {"samples": samples}, [reply])
        return len(samples)

    def store(self, part: str, count: int, usd: float | None, fields: dict[str, Any], replies: Sequence[Reply]) -> None:
        """Stores a part and closes its requests."""
        self.recorder.checkpoint.add_part(self.row, self.model, part, count, usd, fields)
        for reply in replies:
            reply.on_stored()

    def store_failure(self, part: str, error: RequestFailedError, replies: Sequence[Reply] = ()) -> None:
        """Stores the failure of a part, with what it cost."""
        usd = total(r.usd for r in replies)
        fields = {"kind": error.kind, "said": error.message[:300], "tries": error.attempts}
        self.store(part, 0, usd, fields, replies)


class _JudgeCalls:
    """The model access of a judge whose score is recorded; adds up the cost of its calls."""

    def __init__(self, row_recorder: _RowRecorder, answer: Answer) -> None:
        self.row_recorder, self.answer = row_recorder, answer
        self.replies: list[Reply] = []
        self.sample_offset = 0

    async def run(self, judge: Any) -> None:
        """Runs the judge and stores its score, or its failure."""
        try:
            outcome = judge.judge(JudgeInput(prompt=self.row_recorder.prompt, answer=self.answer, ask=self))
            verdict = outcome if not hasattr(outcome, "__await__") else await outcome
        except RequestFailedError as error:
            self.row_recorder.store_failure(judge.name, error, self.replies)
            return
        except (StoppedError, OSError):
            raise
        except Exception as error:
            # Its text may quote the prompt.
            self.row_recorder.store_failure(
                judge.name, RequestFailedError(f"judge failed: {type(error).__name__}", "", 1), self.replies
            )
            return
        usd = total(r.usd for r in self.replies)
        seconds = total(r.latency_s for r in self.replies)
        latency = None if seconds is None else round(seconds, 6)
        fields: dict[str, Any] = {"score": verdict.score, "latency_s": latency}
        if verdict.veto:
            fields["veto"] = True
        if verdict.reason:
            fields["reason"] = verdict.reason[:200]
        self.row_recorder.store(judge.name, 1, usd, fields, self.replies)

    async def __call__(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[AskOptions]) -> Sequence[Answer]:
        """See ``judges.Ask``."""
        client = self.row_recorder.client if model is None else self.row_recorder.recorder.clients.get(model)
        if client is None:
            raise LookupError(f"a judge asks for the model {model!r}, which the policy does not have")
        sample = model is None and prompt is self.row_recorder.prompt
        request = Request(**options, sample=sample, sample_offset=self.sample_offset if sample else 0)
        reply = await client.ask(prompt, request)
        self.replies.append(reply)
        self.sample_offset += len(reply.answers) if sample else 0
        return reply.answers
