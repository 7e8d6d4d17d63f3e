"""What ``final: vote`` gains on date and cruxeval where every tier is asked: beside ``best`` and the last tier alone.

The last tier is judged by self-consistency where it has samples. All is fitted on the calibration half of each of 20 seeds;
the paired differences are means by row of the test halves, with 95 % intervals over rows. ``--seeds N`` takes fewer. Prints
JSON; exits with 1 where no ladder of date or cruxeval gains more than its interval.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.recording import read
from evals.replay.candidate_tiers import fit_tier
from evals.replay.rows.input_rows import default_judges, usable_rows
from evals.replay.rows.splits import halves
from evals.replay.score_table import Cache, load_or_score, sha256_of
from evals.replay.simulate import SimulatedCascade
from evals.replay.statistics.metrics import auroc
from evals.replay.voting import fit_vote, quality_at_end, vote_if_better

LADDERS = {
    "date": [
        ["llama2-13b:pot2", "gpt-3.5:pot2_t=0.8", "gpt-4:cot1"],
        ["llama2-13b:pot2", "llama2-13b:cot2", "gpt-3.5:cot1_40", "gpt-3.5:pot2_t=0.8"],
    ],
    "cruxeval": [
        ["gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"],
        ["gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "o1-mini-2024-09-12"],
    ],
}


async def measure(path: Path, tiers: Sequence[str], seeds: int) -> dict[str, Any]:
    """Quality, paired differences and AUROC of the confidence on the test rows."""
    rows, _, _ = usable_rows(list(read(path)), tiers)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "x", sha256_of(path))
        columns = [await load_or_score(rows, tier, default_judges(rows, tier), cache) for tier in tiers]
    quality = {final: np.full((seeds, len(rows)), np.nan) for final in ("last", "best", "vote")}
    ranking: dict[str, list[float]] = {"best": [], "vote": []}
    offered = 0
    for seed in range(seeds):
        splits = halves([e.task for e in rows], seed)
        last = SimulatedCascade.from_tiers([fit_tier(column, splits.calibration, seed) for column in columns])
        cascades = {"last": last, "best": last.with_final("best"), "vote": fit_vote(last, splits.calibration)}
        offered += bool(vote_if_better(last, splits.calibration))
        for final, cascade in cascades.items():
            quality[final][seed, splits.test] = quality_at_end(cascade)[splits.test]
            if final in ranking:
                outcome = cascade.outcome((1.1,) * (len(tiers) - 1), splits.test)
                value = auroc(outcome.confidence, outcome.quality)
                ranking[final].append(np.nan if value is None else value)
    return {
        "tiers": list(tiers),
        "rows": len(rows),
        "quality": {final: round(float(np.nanmean(values)), 4) for final, values in quality.items()},
        "vote - best": _paired(quality["vote"] - quality["best"]),
        "vote - last": _paired(quality["vote"] - quality["last"]),
        "auroc": {final: round(float(np.nanmean(values)), 3) for final, values in ranking.items()},
        "offered": offered / seeds,
    }


def _paired(difference: npt.NDArray[np.float64]) -> list[float]:
    """The mean difference and its 95 % interval, from each row's mean over the seeds that tested it."""
    by_row = np.nanmean(difference[:, ~np.isnan(difference).all(axis=0)], axis=0)
    mean, error = float(by_row.mean()), 1.96 * float(by_row.std(ddof=1)) / len(by_row) ** 0.5
    return [round(mean, 4), round(mean - error, 4), round(mean + error, 4)]


async def _main(seeds: int) -> int:
    folder = Path(os.environ.get("CASCADE_RECORDINGS", Path(__file__).parents[3] / ".." / "shared" / "recordings"))
    gains = []
    for name, ladders in LADDERS.items():
        path = folder / f"{name}.jsonl.gz"
        if not path.exists():
            print(f"{path}: not there; skipped", file=sys.stderr)
            continue
        for tiers in ladders:
            line = await measure(path, tiers, seeds)
            gains.append(line["vote - best"][1] > 0.0)
            print(json.dumps({"recording": name, "seeds": seeds, **line}), flush=True)
    return 0 if any(gains) or not gains else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    sys.exit(asyncio.run(_main(parser.parse_args().seeds)))
