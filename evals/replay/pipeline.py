"""One replay from end to end: score, split, prove, run the proof's policy through the engine, compare with the baselines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Policy, Result
from cascade.policy.calibration_file import CalibrationFile
from evals.common.progress import Progress
from evals.recording import Example, models_of

from . import baselines, engine_check, report_data
from .certified_choice import CertifiedChoice, Guarantee, Method, prove, upper_bound
from .certify import METHODS
from .comparison import compare
from .input_rows import (  # fmt: skip
    ReplayError,
    Rules,
    asked_text,
    check_judges,
    check_tiers,
    default_judges,
    named_judges,
    plans,
    preview,
    row_warnings,
    usable,
)
from .results_table import ResultRow, as_json, render
from .score_table import Cache, TierScores, column, fingerprint
from .simulate import Outcome
from .splits import Splits, halves

MOST_TIERS = 10
LOSS = 0.02  # what the baselines may lose where the promise is about something else


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found. ``data`` is what ``--json`` writes and the page shows; ``artefact`` what ``--out`` writes.

    ``per_second``: test rows that the engine answered a second, from recorded answers.
    """

    lines: tuple[ResultRow, ...]
    data: dict[str, Any]
    artefact: CalibrationFile | None
    warnings: tuple[str, ...]
    per_second: float

    def __str__(self) -> str:
        chosen, certificate = self.data["chosen"], self.data["certificate"]
        thresholds = [*chosen["thresholds"], chosen["last_at"]]
        ladder = "\n".join(
            f"  {tier}: accept from {at:.4g}, judges {', '.join(chosen['judges'][tier]) or 'none'}"
            for tier, at in zip(chosen["tiers"], thresholds, strict=True)
        )
        n = ", ".join(f"{count:,} to {part}" for part, count in self.data["n"].items())
        kept = "CERTIFIED" if certificate["certified"] else "NOT CERTIFIED"
        notes = "".join(f"note: {note}\n" for note in self.data["notes"])
        return (
            f"{render(self.lines, chosen['tiers'])}\n\n"
            f"rows: {n}; all figures are of the test rows\n"
            f"{kept}: {certificate['words']}\n"
            f"ladder ({chosen['final']} answer counts):\n{ladder}\n{notes}{self.per_second:,.0f} rows/s through the engine"
        )


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """The settings of a replay."""

    promise: Guarantee
    seed: int = 0
    judges: tuple[str, ...] | None = None
    method: Method = "auto"
    split: str = "half"
    keep_premium: bool = False
    policy: Policy | None = None


async def replay(path: str | Path, examples: Sequence[Example], tiers: Sequence[str], asked: ReplayConfig) -> ReplayResult:
    """Calibrates and tunes on one half of the rows, tests on the other. Raises ReplayError, PolicyError."""
    check_tiers(tiers, models_of(examples))
    if len(tiers) > MOST_TIERS:
        raise ReplayError(f"{len(tiers)} tiers are too many to sweep; choose at most {MOST_TIERS} with --tiers")
    kept, left_out, warnings = usable(examples, tiers)
    if asked.judges is not None:
        check_judges(asked.judges, kept, tiers)
    warnings = [*warnings, *row_warnings(kept, tiers)]
    recorded = [e.split for e in kept] if asked.split == "recorded" else None
    if recorded is not None and not {"train", "test"} <= set(recorded):
        raise ReplayError(
            f"--split recorded: {recorded.count('train')} of {len(recorded)} rows have the split 'train' and "
            f"{recorded.count('test')} 'test'; give both, or leave --split out"
        )
    try:
        splits = halves(
            [e.task for e in kept],
            asked.seed,
            recorded=recorded,
            groups=[asked_text(e) for e in kept],
        )
    except ValueError as error:
        raise ReplayError(f"{error}; a replay needs rows to fit, to certify and to test on") from None
    sha256 = fingerprint(path)
    columns = await _columns(path, sha256, kept, tiers, asked)
    if asked.policy is None:
        proof = prove(
            columns, splits, asked.promise, seed=asked.seed, method=asked.method,
            must_end=tiers[-1] if asked.keep_premium else None,
        )  # fmt: skip
        if asked.method == "preset" and proof.method != "preset":
            raise ReplayError(
                "--method preset: the fixed grid needs two tiers and one judge that gives scores; choose them with --tiers "
                "and --judges, such as --judges rules,logprob, or leave --method out"
            )
    else:
        proof = None
    made = engine_check.policy(proof.chosen) if proof else asked.policy
    assert made is not None
    rerun = Progress(len(splits.test), "engine")
    results = await engine_check.rerun(made, kept, splits.test, rerun.step)
    rerun.end()
    ran = engine_check.outcome(results, [t.model for t in made.tiers])
    if proof:
        engine_check.agree(ran, proof.chosen.outcome(splits.test))
    limit = asked.promise.value if asked.promise.kind == "max_loss" else LOSS
    against = Guarantee("max_loss", limit, asked.promise.delta)
    lines = compare(kept, columns, splits, against, ran, [r.model for r in results], asked.seed)
    data = _data(kept, columns, splits, tiers, asked, proof, made, results, ran, lines)
    data["recording"] = {"name": Path(path).name, "sha256": sha256, "n": len(kept), "left_out": left_out}
    artefact = None
    if proof:
        shown = [t for t in data["calibration_list"] if t["tier"] in data["chosen"]["tiers"]]
        artefact = engine_check.artefact(
            proof.chosen,
            recording={"name": Path(path).name, "sha256": sha256, "n": len(kept)},
            candidates={
                m: [dict(r) for r in (columns[m][0] if m != tiers[-1] else _free(columns[m][0])).rules] for m in tiers
            },
            seed=asked.seed,
            splits=data["n"],
            promise=asdict(asked.promise),
            certificate=proof.certificate,
            evidence={
                "test": data["test"],
                "lines": data["lines"],
                "calibration": {t["tier"]: {"before": t["before"], "after": t["after"]} for t in shown},
            },
        )
    return ReplayResult(lines, data, artefact, tuple(warnings), rerun.rate)


async def _columns(
    path: str | Path, sha256: str, rows: Sequence[Example], tiers: Sequence[str], asked: ReplayConfig
) -> dict[str, list[TierScores]]:
    cache = Cache(path, sha256)
    wanted: dict[str, list[Rules]] = {}
    for tier in tiers:
        if asked.judges is not None:
            wanted[tier] = [named_judges(asked.judges, rows, tier)]
        else:
            wanted[tier] = [default_judges(rows, tier)] if len(tiers) <= 2 else plans(rows, tier)
    progress = Progress(len(rows) * sum(len(w) for w in wanted.values()), "judging")
    columns = {
        tier: [await column(rows, tier, rules, cache, progress.step) for rules in given] for tier, given in wanted.items()
    }
    progress.end()
    for tier, given in columns.items():
        unknown = np.any([np.isnan(c.cost_usd).any(axis=1) for c in given], axis=0)
        unpriced = [row.id for row, missing in zip(rows, unknown, strict=True) if missing]
        if unpriced:
            raise ReplayError(
                f"what judging costs is unknown in {len(unpriced)} rows of the model {tier!r}: {preview(unpriced)}; give "
                f"answers[{tier!r}].sample_cost_usd, or leave self_consistency out by --judges"
            )
    return columns


def _data(
    rows: Sequence[Example],
    columns: dict[str, list[TierScores]],
    splits: Splits,
    tiers: Sequence[str],
    asked: ReplayConfig,
    proof: CertifiedChoice | None,
    made: Policy,
    results: Sequence[Result],
    ran: Outcome,
    lines: Sequence[ResultRow],
) -> dict[str, Any]:
    """Everything that ``--json`` writes and the page shows."""
    test, seed, promise = splits.test, asked.seed, asked.promise
    ours = next(item for item in lines if item.kind == "cascade")
    notes = [*(proof.notes if proof else ()), *(f"{item.name}: {item.note}" for item in lines if item.note)]
    for tier in tiers[:-1]:
        given = columns[tier][0]
        if given.vetoed[:, -1].all():
            used = ", ".join(str(rule["use"]) for rule in given.rules)
            notes.append(f"every answer of {tier} is vetoed; leave the judge out by --judges (now: {used})")
    silent = sum(v.reason.startswith("judge failed") for r in results for a in r.attempts for v in a.verdicts)
    silent += sum(a.reason == "judge_failure" for r in results for a in r.attempts)
    if silent:
        notes.append(f"{silent} verdicts on test rows are missing, because what their judge asks was not recorded")
    models = [t.model for t in made.tiers]
    extra = {
        "flow": report_data.flow(models, ran),
        "by_task": report_data.by_task(
            rows, test, models, ran, tiers[-1], lambda a, b: baselines.bootstrap_difference(a, b, seed)
        ),
        "mistakes": report_data.mistakes(rows, test, results, ran, tiers[-1]),
    }
    if proof:
        certificate = dict(proof.certificate)
        fit, certify = (0, len(splits.calibration)) if proof.method == "preset" else (len(splits.fit), len(splits.certify))
        counts = {"fit": fit, "certify": certify, "test": len(test)}
        calibration = report_data.calibration(proof.chosen, test, len(proof.fitted_on), seed)
    else:
        losses = columns[tiers[-1]][0].quality[test, 0] - ran.quality
        certificate, counts, calibration = _measured(losses, asked.promise), {"test": len(test)}, []
    usd = float(columns[tiers[-1]][0].cost_usd[test, 0].mean())
    chosen = {
        "tiers": models,
        "thresholds": [t.accept_at for t in made.tiers[:-1]],
        "last_at": made.tiers[-1].accept_at,
        "final": made.final,
        "judges": {t.model: [j.use for j in t.judges] for t in made.tiers},
        "cost_ratio": ours.relative_cost,
        "usd_per_1000": ours.usd_per_1000,
        "quality": ours.quality,
        "quality_difference": ours.difference,
        "interval": list(ours.interval),
        "accepted": float(ran.accepted.mean()),
        "certificate": certificate,
    }
    return {
        "version": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": seed,
        "n": counts,
        "promise": {"kind": promise.kind, "value": promise.value, "delta": promise.delta},
        "certificate": certificate,
        "tiers": list(tiers),
        "chosen": chosen,
        "test": {
            "n": len(test),
            "quality": ours.quality,
            "cost_ratio": ours.relative_cost,
            "quality_difference": ours.difference,
            "interval": list(ours.interval),
        },
        "lines": [as_json(item) for item in lines],
        "baselines": {item.name: as_json(item) for item in lines if item.kind != "cascade"},
        "calibration": {
            c["tier"]: {k: c[k] for k in ("method", "n", "before", "after", "ece_by_chance")} for c in calibration
        },
        "calibration_list": calibration,
        "frontier": report_data.frontier(columns, splits.fit, test, usd, seed),
        "policy": made.model_dump(mode="json"),
        "policy_hash": made.hash,
        "notes": notes,
        **extra,
    }


def _free(column: TierScores) -> TierScores:
    """The column as a last tier uses it: nothing dear is asked about an answer that is returned anyway."""
    return column.first(column.free)


def _measured(losses: npt.NDArray[np.float64], promise: Guarantee) -> dict[str, Any]:
    """For a policy that was given, not tuned: what it loses at most, from rows that none of it was learned from."""
    bound, method = upper_bound(losses, promise.delta)
    words = (
        f"The given policy: with probability {100 * (1 - promise.delta):g} % its mean quality is at most {bound:.3f} "
        f"below the premium tier's, provided that nothing in it was chosen on these {len(losses):,} rows."
    )
    return {
        "certified": bound <= promise.value, "max_loss": bound, "delta": promise.delta, "method": METHODS[method],
        "n": len(losses), "p_value": promise.delta, "tests": 1, "needed_n": None, "words": words,
    }  # fmt: skip


def page(data: dict[str, Any]) -> dict[str, Any]:
    """The data as the page reads it."""
    promise = dict(data["promise"])
    if promise["kind"] == "min_accepted_quality":
        promise |= {"kind": "selective", "value": 1.0 - promise["value"]}
    return {**data, "calibration": data["calibration_list"], "promise": promise}


def as_file(data: dict[str, Any]) -> dict[str, Any]:
    """The data as ``--json`` writes it."""
    return {k: v for k, v in data.items() if k != "calibration_list"}
