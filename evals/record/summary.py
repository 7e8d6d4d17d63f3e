"""The summary at the end of a run: what it cost, what failed and why, what is missing."""

from dataclasses import dataclass
from pathlib import Path

from cascade.policy.load import find, load
from cascade.util.own_command import own_command
from evals.recording import read

from .checkpoint import Checkpoint
from .recorder import Recorder

_DEFECTS = {
    "length": ("was", "were", " cut off at the token limit: 'max_tokens' in the policy file, or its default"),
    "content_filter": ("was", "were", " stopped by the provider's filter"),
    "empty": ("is", "are", " empty"),
    "unlogged": ("has", "have", " no token log-probabilities although they were requested; the server may not support them"),
}


@dataclass(slots=True)
class FailureGroup:
    """Rows that failed in the same way: how many, the number of the first, and its error message."""

    rows: int
    first: int
    message: str


def failures(checkpoint: Checkpoint) -> dict[tuple[str, str, str], FailureGroup]:
    """The failures by model, part and kind."""
    groups: dict[tuple[str, str, str], FailureGroup] = {}
    for model, key in enumerate(checkpoint.models):
        for row in range(checkpoint.survey.rows):
            if not checkpoint.any_failed(row, model):
                continue
            last = {p.name: p for p in checkpoint.parts(row, model)}
            for part in last.values():
                if not part.count:
                    kind = str(part.content["kind"])
                    message = str(part.content["said"])
                    # Messages usually start with the model and the kind, which the line already shows.
                    message = message.partition(kind)[2].lstrip(":; ") if kind in message else message
                    groups.setdefault((key, part.name, kind), FailureGroup(0, row, message)).rows += 1
    return groups


def print_summary(recorder: Recorder, before: float, max_usd: float | None) -> bool:
    """Prints the summary, with one line for each kind of failure.

    Args:
        recorder: The run.
        before: USD that earlier runs of this recording spent.
        max_usd: The cost limit, if any.

    Returns:
        Whether anything is missing.
    """
    checkpoint, missing = recorder.checkpoint, recorder.count_missing()
    spent = f"${checkpoint.spent:.6f} spent" + (f", ${checkpoint.spent - before:.6f} of it now" if before else "")
    if checkpoint.unpriced_parts:
        spent += f", and {checkpoint.unpriced_parts:,} parts of unknown price"
    if checkpoint.unconfirmed_usd:
        spent += f"; requests that were cut off may have cost up to ${checkpoint.unconfirmed_usd:.6f} more"
    if checkpoint.grading_usd:
        spent += f"; ${checkpoint.grading_usd:.6f} more for grades of judge models"
    print(spent)
    failed = failures(checkpoint)
    ids = _ids(recorder, {group.first for group in failed.values()})
    for (key, part, kind), group in sorted(failed.items()):
        rows = f"{group.rows:,} rows, the first" if group.rows > 1 else "1 row,"
        message = f": {group.message}" if group.message else ""
        print(f"failed: {key}: {part}: {kind}: {rows} {ids[group.first]!r}{message} (--retry-failed repeats the requests)")
    for (key, defect), n in sorted((at, n) for at, n in recorder.defects.items() if at[1]):
        one_is, more_are, words = _DEFECTS[defect]
        print(f"note: {key}: {n:,} {f'answers of this run {more_are}' if n > 1 else f'answer of this run {one_is}'}{words}")
    stopped = [client.stopped for client in recorder.clients.values() if client.stopped is not None]
    for reason in stopped:
        print(f"stopped: {reason}")
    budget_reached = recorder.stop_signal.reason == "budget"
    if budget_reached:
        print(f"stopped before the cost exceeded --max-usd {max_usd:.6f}")
    under_way = sum(not about.get("done") for about in checkpoint.batches.values())
    if under_way:
        print(f"open batches: {under_way}; run the same command again to collect them")
    if missing:
        command = "run the same command again to continue"
        remedy = (
            f"{command} with a higher --max-usd" if budget_reached else f"{'fix that, then ' if stopped else ''}{command}"
        )
        print(f"{missing:,} answers are missing; {remedy}")
    return bool(missing or failed)


def next_commands(out: str, policy_file: str | None, policy: str | None, *, graded: bool) -> list[str]:
    """The commands that follow a whole recording: grade it, unless it is graded, and tune the policy on it.

    Args:
        out: The recording.
        policy_file: The policy file; None: the usual one.
        policy: The policy's name; None: the file's default.
        graded: Whether the answers are graded.
    """
    cascade = own_command()
    path = find(policy_file)
    grade = [] if graded else [f"  {cascade} grade {out} {_grader(out, path, policy)}"]
    named = "" if policy in (None, "default") else f" --policy {policy}"
    tuned = path.with_name(f"{path.stem}-tuned{path.suffix}")
    replay = f"  {cascade} replay {out} --policy-file {path}{named} --max-loss 0.02,0.03,0.05,0.1 --write-policy {tuned}"
    return ["next:", *grade, replay]


def _grader(out: str, path: Path, policy: str | None) -> str:
    """The options that grade a recording: against its references, or, where it has none, by the policy's last model."""
    first = next(iter(read(out)), None)
    if first is None or first.reference is not None:
        return "--grader text"
    policies = load(path).policies
    chosen = policies.get(policy or "default") or next(iter(policies.values()))
    return f"--grader model:use={chosen.tiers[-1].model} --policy-file {path} --max-usd 5"


def _ids(recorder: Recorder, rows: set[int]) -> dict[int, str]:
    """The ids of these rows of the dataset."""
    ids: dict[int, str] = {}
    for row, example in enumerate(recorder.dataset):
        if len(ids) == len(rows):
            break
        if row in rows:
            ids[row] = example.id
    return ids
