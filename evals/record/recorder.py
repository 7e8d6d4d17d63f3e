"""Asks every model about every row, as many at once as its pace allows; each answer stands in the work file at once."""

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
from judges.protocol import JudgeInput

from .checkpoint import Checkpoint
from .client import AnswerSource, FailedError, Reply, StoppedError, StopSignal
from .dataset import Dataset
from .plan import Target

_SYNC_EVERY_S = 1.0


@dataclass(slots=True)
class Recorder:
    """One run. ``lines`` are the models by their names in the policy file; ``step`` is called for each row and model done.

    ``retry`` asks again for what failed in an earlier run; ``together`` asks for samples at once with the answer, as is
    right where a reply takes hours. ``error`` is what broke the run: a disk that is full. ``ends`` counts this run's
    answers by model and ``end_of``.
    """

    dataset: Dataset
    targets: Sequence[Target]
    lines: Mapping[str, AnswerSource]
    work: Checkpoint
    halt: StopSignal
    limit: int | None = None
    retry: bool = False
    together: bool = False
    step: Callable[[], None] = lambda: None
    error: OSError | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.numbers = {t.key: self.work.model(t.key) for t in self.targets}

    @property
    def rows(self) -> int:
        """How many rows are asked about."""
        rows = self.work.survey.rows
        return rows if self.limit is None else min(rows, self.limit)

    def complete(self, target: Target, row: int) -> bool:
        """Whether nothing is left to be asked of the model about the row."""
        work, model = self.work, self.numbers[target.key]
        if not work.touched(row, model):
            return False
        if work.any_failed(row, model):
            if self.retry:
                return False
            if work.failed(row, model, ANSWER):
                return True
        there = [(ANSWER, work.has(row, model, ANSWER))]
        if target.samples:
            there.append((SAMPLES, work.samples(row, model) >= target.samples))
        there += [(r.judge.name, work.has(row, model, r.judge.name)) for r in target.recorded]
        return all(ok or work.failed(row, model, part) for part, ok in there)

    def left(self) -> int:
        """How many pairs of row and model are not complete."""
        return sum(not self.complete(t, row) for t in self.targets for row in range(self.rows))

    async def run(self, workers: int) -> None:
        """Asks until all is done or the run is stopped. Raises OSError where an answer could not be kept."""
        beside = [asyncio.create_task(self._beside(line.run)) for line in self.lines.values()]
        beside.append(asyncio.create_task(self._beside(self._sync)))
        try:
            async with asyncio.TaskGroup() as group:
                for target in self.targets:
                    feed = self._feed(target)
                    for _ in range(min(workers, self.rows)):
                        group.create_task(self._work(target, feed))
        finally:
            for task in beside:
                task.cancel()
            ended = await asyncio.gather(*beside, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        if self.error is not None:
            raise self.error

    async def _beside(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except OSError as error:
            self.error = self.error or error
            self.stop("disk")
        except Exception:
            self.stop("error")
            raise

    def stop(self, reason: str) -> None:
        """Sends no further request; those under way are waited for."""
        self.halt.stop(reason)
        for line in self.lines.values():
            line.release()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            await asyncio.to_thread(self.work.sync)

    def _feed(self, target: Target) -> Iterator[tuple[int, Example]]:
        """The rows about which something is left to ask; all workers of a model take from the same one."""
        for row, example in enumerate(islice(self.dataset, self.rows)):
            if not self.complete(target, row):
                yield row, example

    async def _work(self, target: Target, feed: Iterator[tuple[int, Example]]) -> None:
        line = self.lines[target.name]
        while self.halt.reason is None and line.stopped is None:
            found = next(feed, None)
            if found is None:
                return
            try:
                await _Job(self, target, *found).run()
            except StoppedError:
                if self.halt.reason is not None:
                    self.stop(self.halt.reason)
            except OSError as error:
                self.error = self.error or error
                self.stop("disk")
            if self.work.file.full:
                self.stop("disk")


class _Job:
    """All that one model is asked about one row."""

    def __init__(self, live: Recorder, target: Target, row: int, example: Example) -> None:
        self.live, self.target, self.row = live, target, row
        self.line, self.model = live.lines[target.name], live.numbers[target.key]
        self.prompt = example.to_prompt()

    async def run(self) -> None:
        """Asks for what is not there yet. Raises StoppedError, OSError."""
        work, row, model = self.live.work, self.row, self.model
        told = join_parts(work.parts(row, model)) if work.touched(row, model) else None
        sampling = work.samples(row, model) < self.target.samples and self._wanted(SAMPLES)
        if told is None and sampling and self.live.together:
            answer, _ = await asyncio.gather(self._answer(), self._samples())
        else:
            answer = to_answer(told, self.line.model.name) if told is not None else await self._answer()
            if answer is not None and sampling:
                await self._samples()
        if answer is not None:
            for each in self.target.recorded:
                name = each.judge.name
                if not work.has(row, model, name) and self._wanted(name):
                    await _Judging(self, answer).run(each.judge)
        if self.live.complete(self.target, row):
            self.live.step()

    def _wanted(self, part: str) -> bool:
        return self.live.retry or not self.live.work.failed(self.row, self.model, part)

    async def _answer(self) -> Answer | None:
        if not self._wanted(ANSWER):
            return None
        try:
            reply = await self.line.ask(self.prompt, Request())
        except FailedError as error:
            self.fail(ANSWER, error)
            return None
        if not reply.answers:
            self.fail(ANSWER, FailedError("no answer", "the reply held no answer", 1), [reply])
            return None
        answer = reply.answers[0]
        self.keep(ANSWER, 1, reply.usd, answer_fields(answer, reply.usd, reply.latency_s), [reply])
        self.live.ends[self.target.key, answer_defect(answer, self.target.spec.logprobs)] += 1
        return answer

    async def _samples(self) -> None:
        """Draws what is missing: in one request where the model can, else side by side."""
        missing = self.target.samples - self.live.work.samples(self.row, self.model)
        if self.target.several:
            while missing > 0 and (found := await self._draw(missing)):
                missing -= found
            return
        async with asyncio.TaskGroup() as group:
            drawn = [group.create_task(self._draw_one()) for _ in range(missing)]
        for task in drawn:
            if (error := task.result()) is not None:
                raise error

    async def _draw_one(self) -> StoppedError | OSError | None:
        """One sample; what ends the run comes back as a value, so that the other samples, which are paid, are kept."""
        try:
            await self._draw(1)
        except (StoppedError, OSError) as error:
            return error
        return None

    async def _draw(self, n: int) -> int:
        request = Request(
            n=n,
            temperature=self.target.temperature,
            sample=True,
            sample_offset=self.live.work.samples(self.row, self.model),
        )
        try:
            reply = await self.line.ask(self.prompt, request)
        except FailedError as error:
            self.fail(SAMPLES, error)
            return 0
        if not reply.answers:
            self.fail(SAMPLES, FailedError("too few samples", "the model gave no further sample", 1), [reply])
            return 0
        samples = [sample_fields(a, reply.latency_s) for a in reply.answers[:n]]
        self.keep(SAMPLES, len(samples), reply.usd, {"samples": samples}, [reply])
        return len(samples)

    def keep(self, part: str, count: int, usd: float | None, found: dict[str, Any], replies: Sequence[Reply]) -> None:
        """The part stands in the work file, and its requests are closed."""
        self.live.work.add(self.row, self.model, part, count, usd, found)
        for reply in replies:
            reply.kept()

    def fail(self, part: str, error: FailedError, replies: Sequence[Reply] = ()) -> None:
        """The part's failure stands in the work file, with what was paid for it."""
        usd = total(r.usd for r in replies)
        told = {"kind": error.kind, "said": error.said[:300], "tries": error.tries}
        self.keep(part, 0, usd, told, replies)


class _Judging:
    """The Ask of a judge whose score is recorded: it goes the way of all requests, and adds up what they cost."""

    def __init__(self, job: _Job, answer: Answer) -> None:
        self.job, self.answer = job, answer
        self.replies: list[Reply] = []
        self.drawn = 0

    async def run(self, judge: Any) -> None:
        """Judges and keeps the score, or why there is none."""
        try:
            said = judge.judge(JudgeInput(prompt=self.job.prompt, answer=self.answer, ask=self))
            verdict = said if not hasattr(said, "__await__") else await said
        except FailedError as error:
            self.job.fail(judge.name, error, self.replies)
            return
        except (StoppedError, OSError):
            raise
        except Exception as error:
            # Its text may quote the prompt.
            self.job.fail(judge.name, FailedError(f"judge failed: {type(error).__name__}", "", 1), self.replies)
            return
        usd = total(r.usd for r in self.replies)
        seconds = total(r.latency_s for r in self.replies)
        latency = None if seconds is None else round(seconds, 6)
        found: dict[str, Any] = {"score": verdict.score, "latency_s": latency}
        if verdict.veto:
            found["veto"] = True
        if verdict.reason:
            found["reason"] = verdict.reason[:200]
        self.job.keep(judge.name, 1, usd, found, self.replies)

    async def __call__(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[AskOptions]) -> Sequence[Answer]:
        """See ``judges.Ask``."""
        line = self.job.line if model is None else self.job.live.lines.get(model)
        if line is None:
            raise LookupError(f"a judge asks for the model {model!r}, which the policy does not have")
        sample = model is None and prompt is self.job.prompt
        request = Request(**options, sample=sample, sample_offset=self.drawn if sample else 0)
        reply = await line.ask(prompt, request)
        self.replies.append(reply)
        self.drawn += len(reply.answers) if sample else 0
        return reply.answers
