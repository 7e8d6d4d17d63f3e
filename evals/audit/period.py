"""The audit of one period: its traffic, its labels, the states of promises, and what follows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cascade.journal.promises import PromiseBook
from cascade.journal.store import SqlStore
from cascade.policy.schema import PolicyFile
from cascade.promise.states import PromiseState
from cascade.shadow.promise_monitor import WatchedPolicy, in_words
from evals.engines import Engine

from .aggregates import Period, compare_prompts, qualities, traffic
from .comparisons import comparisons
from .findings import MOST, Change, changes
from .prompt_drift import PromptDrift
from .quality import PolicyQuality
from .reviews import reviewed_runs
from .traffic import Traffic


@dataclass(slots=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        since: The period's begin in Unix seconds.
        until: Its end.
        now: The period's traffic.
        before: The traffic of the period of the same length before it.
        qualities: The labels by policy.
        states: The states of promises by policy.
        promises: What they are, in words.
        changes: What to change.
        prompts: How the prompts compare with a recording; None: with none.
    """

    since: float
    until: float
    now: Traffic = field(default_factory=Traffic)
    before: Traffic = field(default_factory=Traffic)
    qualities: dict[str, PolicyQuality] = field(default_factory=dict)
    states: dict[str, PromiseState] = field(default_factory=dict)
    promises: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    prompts: PromptDrift | None = None

    @property
    def prompt_lines(self) -> dict[str, str]:
        """How the prompts of each policy compare with the recording, in words."""
        policies = {} if self.prompts is None else self.prompts.policies
        return {name: one.words() for name, one in policies.items()}

    @property
    def is_bad(self) -> bool:
        """Whether a promise is in doubt or broken."""
        return any(state in (PromiseState.IN_DOUBT, PromiseState.BROKEN) for state in self.states.values())

    def to_json(self) -> dict[str, Any]:
        """The audit as plain data."""
        return {
            "since": day_text(self.since),
            "until": day_text(self.until),
            "traffic": self.now.to_json(),
            "period_before": self.before.total.to_json(),
            "quality": {name: quality.to_json() for name, quality in self.qualities.items()},
            "promises": {name: {"state": self.states[name].value, "words": text} for name, text in self.promises.items()},
            **({} if self.prompts is None else {"prompts": {n: p.to_json() for n, p in self.prompts.policies.items()}}),
            "changes": [change.to_json() for change in self.changes],
        }


def audit(
    store: SqlStore,
    file: PolicyFile,
    *,
    since: float,
    until: float,
    policy: str | None = None,
    prompts: PromptDrift | None = None,
    engine: Engine | None = None,
) -> Audit:
    """Audits the runs of a period, and counts those of the period before it.

    Args:
        store: The journal.
        file: The policy file.
        since: The begin in Unix seconds.
        until: The end.
        policy: Only this policy's runs; None: all.
        prompts: Compares the runs' prompts with a recording.
        engine: Whose workers read the prompts, and add up a journal in Parquet files; None: this process.
    """
    now = Period(store=store, since=since, until=until, policy=policy)
    both = Period(store=store, since=since - (until - since), until=until, policy=policy)
    before, present = traffic(both, since, engine)
    result = Audit(since=since, until=until, now=present, before=before, prompts=prompts)
    result.qualities = qualities(now, result.now.total.runs)
    for name, reviewed in reviewed_runs(now).items():
        if name in result.qualities:
            result.qualities[name].people = reviewed.estimate()
    if prompts is not None:
        compare_prompts(now, prompts, result.now.total.runs, engine)
    return result


def add_promises(result: Audit, file: PolicyFile, book: PromiseBook, policy: str | None = None) -> None:
    """Adds the states of the file's promises, and the changes that follow."""
    for name, one in file.policies.items():
        watched = WatchedPolicy.of(one)
        if watched is None or policy not in (None, name):
            continue
        update = book.look(name, watched.hash, watched.promise, watched.floor)
        result.states[name], result.promises[name] = update.state, in_words(update)
    by_labels = changes(result.now, result.qualities, result.states, file.policies)
    result.changes = [*by_labels, *comparisons(result.now, result.before, file.policies)][:MOST]


def day_text(seconds: float) -> str:
    """A time in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
