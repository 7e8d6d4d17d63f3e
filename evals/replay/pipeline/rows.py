"""The rows that a replay uses: those that all tiers answered, in the parts to fit, to certify and to test on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.recording import Example
from evals.replay.rows.grades import check_grades
from evals.replay.rows.input_rows import ReplayError, check_judges, prompt_key, row_warnings, session_of, usable_rows
from evals.replay.rows.sampling import sampled_rows
from evals.replay.rows.splits import Splits, halves

from .config import MOST_TIERS, ReplayConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRows:
    """The rows of a recording that are used, their parts, how many were left out for which reason, and what is odd."""

    rows: list[Example]
    splits: Splits
    left_out: Mapping[str, int]
    warnings: list[str]


def prepare_rows(
    examples: Sequence[Example], tiers: Sequence[str], config: ReplayConfig, stand_ins: Sequence[str]
) -> ReplayRows:
    """Selects and splits the rows.

    Args:
        examples: The recording's rows.
        tiers: The models, cheapest first, the premium tier last.
        config: The settings of the replay.
        stand_ins: The names of judges that are not installed and whose recorded verdicts are replayed.

    Raises:
        ReplayError: The rows or the tiers do not allow a replay; the message says what to change.
    """
    if len(tiers) > MOST_TIERS:
        raise ReplayError(f"{len(tiers)} tiers are too many to sweep; choose at most {MOST_TIERS} with --tiers")
    rows, left_out, warnings = usable_rows(examples, tiers)
    check_grades(examples, tiers)
    rows, sampling = sampled_rows(rows, n_incomplete=left_out["a tier has no answer"], seed=config.seed)
    if sampling is not None:
        left_out = {**left_out, "not drawn at random": sampling.n_left_out}
        warnings = [*warnings, str(sampling)]
    if config.judges is not None:
        check_judges(config.judges, rows, tiers)
    warnings = [*warnings, *row_warnings(rows, tiers)]
    if stand_ins:
        warnings.append(
            f"not installed here: {', '.join(stand_ins)}; the recorded verdicts are replayed, and a policy with this "
            "calibration loads only where judges of these names are registered"
        )
    return ReplayRows(rows=rows, splits=_split(rows, config), left_out=left_out, warnings=warnings)


def _split(rows: Sequence[Example], config: ReplayConfig) -> Splits:
    recorded = [e.split for e in rows] if config.split == "recorded" else None
    if recorded is not None and not {"train", "test"} <= set(recorded):
        raise ReplayError(
            f"--split recorded: {recorded.count('train')} of {len(recorded)} rows have the split 'train' and "
            f"{recorded.count('test')} 'test'; give both, or leave --split out"
        )
    groups = [session_of(e) or prompt_key(e) for e in rows]
    try:
        return halves([e.task for e in rows], config.seed, recorded=recorded, groups=groups)
    except ValueError as error:
        raise ReplayError(f"{error}; a replay needs rows to fit, to certify and to test on") from None
