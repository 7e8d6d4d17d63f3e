"""The lines of a replay's table: each tier, the cascade and what it must beat, all on the same held-out rows."""

from collections.abc import Sequence

import numpy as np

from evals.recording import Example

from . import baselines
from .baselines import Baseline, Columns
from .certified_choice import Guarantee
from .results_table import Kind, ResultRow, line
from .simulate import Outcome
from .splits import Splits


def compare(
    rows: Sequence[Example],
    columns: Columns,
    splits: Splits,
    promise: Guarantee,
    ran: Outcome,
    answered_by: Sequence[str],
    seed: int,
) -> tuple[ResultRow, ...]:
    """The lines on the test rows. ``ran``: what the cascade did on them, and which model's answer it returned.

    ``promise``: the loss that the baselines may have, each by a certificate of its own.
    """
    test, tiers = splits.test, list(columns)
    alone = [baselines.single(columns, t, test) for t in tiers]
    premium = alone[-1]
    usd = float(premium.cost_usd.mean())

    def of(kind: Kind, b: Baseline) -> ResultRow:
        between = baselines.bootstrap_difference(b.quality, premium.quality, seed)
        return line(
            b.name, kind, b.quality, b.cost_usd, b.latency_s, b.answered_by, premium.quality, usd, between, b.note
        )  # fmt: skip

    ours = Baseline("cascade", "", ran.quality, ran.cost_usd, ran.latency_s, list(answered_by))
    made = [of("tier", b) for b in alone] + [of("cascade", ours)]
    if len(tiers) > 1:
        texts = [" ".join(filter(None, (e.system, e.to_prompt().text))) for e in rows]
        if np.isfinite(spent := float(ran.cost_usd.mean())):
            made.append(of("baseline", baselines.random_mixing(columns, tiers, splits.calibration, test, spent)))
        if len(tiers) > 2:
            made.append(of("baseline", baselines.best_pair(columns, splits, promise, seed)))
        router = baselines.prompt_router(texts, columns, splits, promise.value, promise.delta, seed)
        made += [of("baseline", router), of("baseline", baselines.hand_set(columns, splits))]
    return (*made, of("oracle", baselines.oracle(columns, tiers, test)))
