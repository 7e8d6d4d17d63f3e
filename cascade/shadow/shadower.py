"""The shadower: a thread that asks, for sampled runs, the tiers that were not asked, within a budget and at low priority.

For a run that is not sampled, this costs the computation of its probability and a comparison. A sampled run is also appended
to a queue, after its answer is complete.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from cascade.engine.plan import CompiledPolicy
from cascade.engine.shadow_plan import ShadowPlan
from cascade.errors import CascadeError
from cascade.journal.journal import Journal
from cascade.journal.record import PendingRecord
from cascade.journal.shadows import ShadowBook
from cascade.models.protocol import Request
from cascade.promise.sampling import is_sampled
from cascade.result import Result
from cascade.util.fork_safety import Pause, register

from .grading import GradingQueues
from .job import ShadowJob, job_of
from .monitor import Monitor
from .requests import OnOutcome, ShadowRequests

log = logging.getLogger("cascade.shadow")

CAPACITY = 1_000
"""Sampled runs that wait; further ones are recorded as skipped."""
MAX_CHARS = 16_000_000
"""Characters of their prompts and answers together; further runs are recorded as skipped, without their texts."""
MOST_SKIPPED = 100_000
"""Runs that wait to be recorded as skipped; further ones are not recorded."""
DRAIN_S = 5.0
"""How long closing waits for work that is queued or in progress."""
CHECK_EVERY_S = 30.0
"""The seconds between checks of the promises."""
_AT_ONCE = 4  # jobs
_ADOPT_EVERY_S, _ADOPT_AFTER_S = 60.0, 900.0  # jobs of processes that ended
BEGIN_S = 2.0
"""A fork waits at most so long for a thread that was just started."""


class Shadower:
    """Shadows the sampled runs of one Cascade. Its thread begins with the first; a forked child starts its own.

    Args:
        compile: Returns a policy, ready to run in the running event loop.
        book: The journal's records of shadow requests.
        policies: The names of the policies that shadow.
        monitor: Watches promises, canaries and traffic.
        gradings: The runs that are to be graded at once.
        on_outcome: Called with each request that ended: its policy, its state, and its cost in USD.
    """

    def __init__(
        self,
        compile: Callable[[str], CompiledPolicy],
        book: ShadowBook,
        policies: Sequence[str],
        monitor: Monitor,
        on_outcome: OnOutcome | None = None,
        gradings: GradingQueues | None = None,
    ) -> None:
        self._on_outcome = on_outcome
        self._gradings = GradingQueues({}) if gradings is None else gradings
        self._compile, self._book, self._policies, self._monitor = compile, book, tuple(policies), monitor
        self._parents_loops: list[asyncio.AbstractEventLoop | None] = []  # never closed in a forked child
        self._begin()
        register(self)

    def restart(self) -> None:
        """See ``ForkAware.restart``; runs that the parent queued are left to the parent."""
        self._parents_loops.append(self._loop)
        self._book.restart()
        self._monitor.restart()
        self._gradings.restart()
        self._begin()

    def _begin(self) -> None:
        self._queue: deque[ShadowJob] = deque()
        self._chars = 0  # in the queue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._began = threading.Event()  # the thread has its loop, or has ended
        self._lock = threading.Lock()
        self._closing = self._stopping = False
        self._drained = threading.Event()

    def pause(self, pause: Pause) -> None:
        """See ``ForkAware.pause``: closes the connection; it is opened again after the fork."""
        if self._thread is None:
            return
        self._began.wait(BEGIN_S)  # a thread that just began opens its connection at any moment
        if self._loop is not None and self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(pause.hold, self._close_books, pause.new_future())

    async def record(
        self, journal: Journal, pending: PendingRecord, work: Awaitable[Result], plan: ShadowPlan, request: Request
    ) -> Result:
        """``Journal.record``, with the run's sampling probability; and queues the run where it is sampled."""
        if self._thread is None and self._monitor.is_needed:
            self._start()  # also where no run is sampled for long: the promise may be broken already
        try:
            result = await work
        except BaseException as error:
            await journal.end(pending, error)
            raise
        probability = pending.sampling_probability = plan.probability(result, pending.tags)
        sampled = is_sampled(pending.run_id, probability)
        if sampled:
            pending.keeps_text, pending.shadow_tiers = plan.spec.text, plan.missing(result.attempts)
        await journal.end(pending, result)
        if sampled and not self._closing:
            if pending.shadow_tiers:
                self._submit(pending, result, plan, request)
            if plan.spec.grade is not None:
                self._gradings.add(pending.policy, pending.run_id)
                self._begin_thread()
        return result

    def add_feedback(self, run_id: str) -> None:
        """Grades a run by its feedback, where a policy says so."""
        if not self._closing and self._gradings.add_feedback(run_id):
            self._begin_thread()

    def _begin_thread(self) -> None:
        if self._thread is None:
            self._start()

    def watch(self) -> None:
        """Starts the thread for a policy that shadows no runs, where its traffic is to be watched."""
        if self._thread is None and self._monitor.is_needed:
            self._start()

    def _submit(self, pending: PendingRecord, result: Result, plan: ShadowPlan, request: Request) -> None:
        job = ShadowJob(
            run_id=pending.run_id,
            policy=pending.policy,
            probability=pending.sampling_probability or 0.0,
            queued=pending.ended,
            tiers=pending.shadow_tiers,
            prompt=pending.prompt,
            request=request,
            answer=result.answer,
            keeps_text=plan.spec.text,
        )
        size = job.size
        with self._lock:
            if len(self._queue) >= MOST_SKIPPED:
                return
            if len(self._queue) >= CAPACITY or self._chars + size > MAX_CHARS:
                job = job.without_texts()
            else:
                self._chars += size
            self._queue.append(job)
        if self._thread is None:
            self._start()
        elif self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="cascade shadow", daemon=True)
                self._thread.start()

    def _close_books(self) -> None:
        self._book.close()
        self._monitor.close()
        self._gradings.close()

    def drain(self) -> None:
        """Takes no further runs, and waits up to DRAIN_S for those that are queued or in progress."""
        self._closing = True
        if self._thread is not None and self._thread.is_alive():
            self._call(self._wake)
            if not self._drained.wait(DRAIN_S) and self._queue:
                log.warning("%d sampled runs were not shadowed: there was no time left before closing", len(self._queue))
                self._queue.clear()

    def stop(self) -> None:
        """Ends the thread. Queued requests stay queued in the journal; those in progress count with their estimate."""
        self._closing = self._stopping = True
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._call(self._wake)
            thread.join(DRAIN_S)

    def _call(self, action: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(action)

    def _wake(self) -> None:
        self._event.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # whatever fails here, runs continue
            log.error("shadowing ended (%s)", type(error).__name__)
        finally:
            self._began.set()
            self._close_books()
            self._drained.set()

    async def _main(self) -> None:
        """Works the queue until ``stop``."""
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began.set()
        jobs: set[asyncio.Task[None]] = set()
        requests = ShadowRequests(self._compile, self._book, is_stopping=lambda: self._stopping, on_outcome=self._on_outcome)
        gradings = self._gradings.start(lambda: self._closing)
        adopt_at = check_at = time.monotonic()
        while not self._stopping:
            self._event.clear()
            if not self._closing and time.monotonic() >= adopt_at:
                adopt_at = time.monotonic() + _ADOPT_EVERY_S
                self._adopt()
            if self._monitor.is_needed and time.monotonic() >= check_at:
                check_at = time.monotonic() + CHECK_EVERY_S
                self._monitor.check()
            while self._queue and len(jobs) < _AT_ONCE:
                task = asyncio.create_task(requests.make(self._take()))
                jobs.add(task)
                task.add_done_callback(jobs.discard)
                task.add_done_callback(lambda _: self._event.set())
            if self._closing and not self._queue and not jobs:
                if gradings:
                    await asyncio.wait(gradings, timeout=DRAIN_S)
                self._drained.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), CHECK_EVERY_S)
        for task in (*jobs, *gradings):
            task.cancel()
        await asyncio.gather(*jobs, *gradings, return_exceptions=True)

    def _take(self) -> ShadowJob:
        with self._lock:
            job = self._queue.popleft()
            if not job.is_skipped and not job.is_stored:
                self._chars -= job.size
        return job

    def _adopt(self) -> None:
        """Queues the jobs that processes left in the journal when they ended."""
        try:
            rows = self._book.waiting(self._policies, time.time() - _ADOPT_AFTER_S, CAPACITY - len(self._queue))
            self._queue.extend(job_of(row) for row in rows)
        except (CascadeError, LookupError, TypeError) as error:
            log.warning("earlier shadow requests could not be read from the journal (%s)", type(error).__name__)
