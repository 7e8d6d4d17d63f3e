"""What runs say of themselves, held against what the server served: request by request, to the last digit."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import combinations
from math import inf

from cascade.errors import RunError
from cascade.journal.record import Record
from cascade.result import CallRecord, Result
from judges import Usage
from tests.faults.process import Served
from tests.faults.replies import COUNTED, REFUSALS

UNREACHED = "no connection"  # how a CallRecord's fault says that the server never saw the request


@dataclass(frozen=True, slots=True)
class Ended:
    """One run and how it ended, ``late_s`` seconds after its deadline (below 0: before it).

    ``number`` is the one in its prompt, ``texts`` are the answers that it may return. Seconds in which the machine had
    other things to do than this process do not count as late.
    """

    number: int
    case: str
    texts: tuple[str, ...]
    outcome: Result | RunError
    late_s: float

    def log(self) -> list[CallRecord]:
        """Every request of the run."""
        return [record for attempt in self.outcome.attempts for record in attempt.call_log]

    def problem(self) -> str | None:
        """Why this is not an answer, or None."""
        if isinstance(self.outcome, RunError):
            return f"{type(self.outcome).__name__}: {self.outcome}"
        return None if self.outcome.text in self.texts else f"the answer {self.outcome.text[:40]!r} ({self.outcome.reason})"


@dataclass
class Findings:
    """What some runs showed; ``wrong`` has a sentence for each broken promise.

    ``worst_late_s`` is the worst end of a run after its deadline. ``cents_apart`` is what the costs that the runs know
    differ by from what was billed for the same requests; ``unknown`` counts the others, ``lost_usd`` is their bill.
    """

    runs: int = 0
    answered: int = 0
    requests: int = 0
    faults: int = 0
    unknown: int = 0
    worst_late_s: float = -inf
    known_usd: Decimal = Decimal(0)
    lost_usd: Decimal = Decimal(0)
    cents_apart: Decimal = Decimal(0)
    wrong: list[str] = field(default_factory=list)


def audit(
    runs: Iterable[Ended], served: Iterable[Served], logs: Mapping[int, Sequence[CallRecord]] | None = None
) -> Findings:
    """Compares the runs' logs, or those that a journal kept of them, with the server's ledger."""
    findings = Findings()
    ledger: dict[tuple[int, str], list[Served]] = defaultdict(list)
    for entry in served:
        ledger[entry.run, entry.model].append(entry)
    for ended in runs:
        findings.runs += 1
        findings.worst_late_s = max(findings.worst_late_s, ended.late_s)
        problem = ended.problem()
        findings.answered += problem is None
        problems = [problem, _total_problem(ended)]
        log: dict[str, list[CallRecord]] = defaultdict(list)
        calls = ended.log() if logs is None else logs.get(ended.number, ())
        for record in sorted(calls, key=lambda r: r.started_s):
            log[record.model].append(record)
        for model, records in log.items():
            for record, entry in _pairs(records, ledger.pop((ended.number, model), [])):
                problems.append(_problem(record, entry))
                _add(findings, record, entry)
        findings.wrong += [f"{ended.case}: {problem}" for problem in problems if problem]
    for entry in (e for entries in ledger.values() for e in entries):
        findings.wrong.append(f"served and in no log: {entry}")
        _add(findings, None, entry)
    return findings


_Pair = tuple[CallRecord | None, Served | None]


def _pairs(records: list[CallRecord], entries: list[Served]) -> list[_Pair]:
    """A run's requests to one model beside what was served, both in order. The server may have missed some requests."""
    missed = [r for r in records if UNREACHED in (r.fault or "")]
    sent = [r for r in records if r not in missed]
    served = entries[: len(sent)]

    def beside(seen: tuple[int, ...]) -> list[_Pair]:
        return [(r, served[seen.index(i)] if i in seen else None) for i, r in enumerate(sent)]

    possible = map(beside, combinations(range(len(sent)), len(served)))
    likeliest = min(possible, key=lambda pairs: sum(_problem(*pair) is not None for pair in pairs))
    return [*((r, None) for r in missed), *likeliest, *((None, e) for e in entries[len(sent) :])]


def _add(findings: Findings, record: CallRecord | None, entry: Served | None) -> None:
    billed = entry.usd if entry is not None else Decimal(0)
    if record is None:
        findings.cents_apart += 100 * billed
        return
    findings.requests += 1
    findings.faults += record.fault is not None
    findings.unknown += record.cost_usd is None
    if record.cost_usd is None:
        findings.lost_usd += billed
    else:
        cost = Decimal(record.cost_usd).quantize(Decimal("1e-12"))
        findings.known_usd += cost
        findings.cents_apart += 100 * abs(cost - billed)


def _problem(record: CallRecord | None, entry: Served | None) -> str | None:
    """Whether the cost in the log is known where it can be, right where it is known, and nowhere 0 for unknown."""
    if record is None:
        return f"served and in no log: {entry}"
    if entry is None:  # it was lost on its way there, which only a connection that never was can tell
        free = 0.0 if UNREACHED in (record.fault or "") else None
        return None if record.fault and record.cost_usd == free else f"in the log and not served: {record}"
    early = record.fault == "cancelled" or "timed out" in (record.fault or "")  # before the answer was read
    knowable = record.fault is None or entry.fault in REFUSALS or entry.fault in COUNTED
    if record.cost_usd is None:
        return f"the cost is knowable: {record}" if knowable and not early else None
    if not knowable:
        return f"{entry.fault} leaves the cost unknown: {record}"
    return None if abs(record.cost_usd - float(entry.usd)) < 1e-12 else f"billed {entry.usd}: {record}"


def _total_problem(ended: Ended) -> str | None:
    """Whether the run's cost is the sum of its requests', and unknown where one of them is."""
    costs = [r.cost_usd for r in ended.log()]
    if isinstance(ended.outcome, RunError):
        return None
    total, known_costs = ended.outcome.cost_usd, [c for c in costs if c is not None]
    if len(known_costs) < len(costs):
        return None if total is None else f"costs {total} although a request's cost is unknown"
    return (
        None
        if total is not None and abs(total - sum(known_costs)) < 1e-12
        else f"costs {total}, its requests {sum(known_costs)}"
    )


def journalled(records: Iterable[Record]) -> dict[int, list[CallRecord]]:
    """The requests that a journal kept, by the run that their tag "run" names."""
    calls_by_run: dict[int, list[CallRecord]] = {}
    for record in records:
        number = record.tags["run"]
        assert isinstance(number, int)
        assert number not in calls_by_run, f"run {number} is in the journal twice"
        calls = [call for attempt in record.attempts for call in attempt["call_log"]]
        calls_by_run[number] = [
            CallRecord(**{**call, "usage": Usage(**call["usage"]) if call["usage"] else None}) for call in calls
        ]
    return calls_by_run
