"""``cascade audit --propose``: tunes and certifies a policy again on what was sampled, by the code of ``cascade replay``."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.journal.read.to_recording import as_recording
from cascade.journal.record import Record
from cascade.util.atomic_write import replacing
from evals.engines import Engine
from evals.grade import GraderError
from evals.grade.command import main as grade
from evals.replay.command import main as replay

NAMES = ("sampled.recording.jsonl", "calibration.json", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a policy is to be tuned with.

    Attributes:
        policy_file: The policy file.
        policy: The name of the policy.
        folder: Where recording, calibration and report go; the policy file goes beside the present one.
        grader: A grader's specification, for the answers of all tiers.
        max_loss: What is promised.
        references: References by run id and by prompt hash.
        max_usd: The most that a model as grader may cost.
    """

    policy_file: Path
    policy: str
    folder: Path
    grader: str
    max_loss: float
    references: Mapping[str, Any]
    max_usd: float | None = None


def sampled_lines(records: Iterable[Record], references: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The complete lines of sampled runs, with their references and probabilities; no other run is a sample."""
    hashes: dict[str, str] = {}

    def noted() -> Iterable[Record]:
        for record in records:
            hashes[record.run_id] = record.prompt_hash
            yield record

    lines: list[dict[str, Any]] = []
    for line in as_recording(noted()):
        run_id = line["id"]
        if "sampling_probability" not in line or run_id not in hashes:
            continue
        reference = references.get(run_id, references.get(hashes[run_id]))
        lines.append({**line, "reference": reference} if reference is not None else dict(line))
    return lines


def propose(proposal: Proposal, records: Iterable[Record], engine: Engine | None = None) -> int:
    """Writes the sampled runs as a recording, grades all of its answers, tunes and certifies.

    Args:
        proposal: What is tuned and how.
        records: The runs of the period, of this policy.
        engine: Whose workers grade and score; None: this process.

    Returns:
        0, or the exit code of the step that failed, which has printed why.

    Raises:
        GraderError: There are no sampled runs with all of their answers.
    """
    recording, calibration, report = (proposal.folder / name for name in NAMES)
    # Beside the present one, since paths in it start from its folder.
    policies = proposal.policy_file.with_name(f"{proposal.policy_file.stem}.proposed.yaml")
    lines = sampled_lines(records, proposal.references)
    if not lines:
        raise GraderError(
            "no sampled run has the answers of all tiers, with text; shadow: {text: true} keeps them, see "
            "docs/how-to/shadow-production.md"
        )
    proposal.folder.mkdir(parents=True, exist_ok=True)
    with replacing(recording, private=True) as file:
        for line in lines:
            file.write(json.dumps(line).encode() + b"\n")
    grading = [str(recording), "--grader", proposal.grader, "--policy-file", str(proposal.policy_file)]
    if proposal.max_usd is not None:
        grading += ["--max-usd", str(proposal.max_usd)]
    status = grade(grading, prog="cascade grade", engine=engine)
    if status:
        return status
    status = replay(
        [
            str(recording),
            *("--policy-file", str(proposal.policy_file), "--policy", proposal.policy),
            *("--max-loss", f"{proposal.max_loss:g}", "--out", str(calibration)),
            *("--write-policy", str(policies), "--report", str(report)),
        ],
        prog="cascade replay",
        engine=engine,
    )
    if status == 0:
        print(f"\nto try it on a tenth of the runs first, in policies.{proposal.policy}:")
        print(f"    canary: {{calibration: {_relative(calibration, proposal.policy_file)}, share: 0.1}}")
    return status


def _relative(path: Path, file: Path) -> str:
    """A path as the policy file names it: relative to the file's folder where it is inside."""
    folder = file.resolve().parent
    return str(path.resolve().relative_to(folder) if path.resolve().is_relative_to(folder) else path.resolve())
