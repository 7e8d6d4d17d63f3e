"""The figures of the data card, from the recording itself: ``python -m evals.demo.starter.card`` prints its tables."""

import asyncio
import sys
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from cascade.data import STARTER_RECORDING
from evals.recording import Example, models_of, read
from evals.replay import score_table
from evals.replay.statistics.metrics import auroc, bootstrap

SIGNALS: dict[str, Any] = {
    "log-probability": {"use": "logprob"},
    "self-consistency of 8": {"use": "self_consistency", "samples": 8, "stop_at": 1.0},
    "P(True)": {"use": "verifier", "mode": "p_true"},
}


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quality(examples: Sequence[Example]) -> str:
    """The share of greedy answers that are right, by family and model."""
    models = models_of(examples)
    tasks = [*dict.fromkeys(e.task for e in examples), "all"]
    body = []
    for task in tasks:
        rows = [e for e in examples if task in (e.task, "all")]
        body.append([task, str(len(rows)), *(f"{fmean(e.answers[m]['quality'] for e in rows):.3f}" for m in models)])
    return table(["family", "n", *models], body)


def cost(examples: Sequence[Example]) -> str:
    """What a question costs with each model, how long the answers are, and how long they took."""
    body = []
    for model in models_of(examples):
        answers = [e.answers[model] for e in examples]
        usage = [a["usage"] for a in answers]
        body.append(
            [
                model,
                f"{fmean(u['input_tokens'] for u in usage):.1f}",
                f"{fmean(u['output_tokens'] for u in usage):.1f}",
                f"{1e6 * fmean(a['cost_usd'] for a in answers):.2f}",
                f"{1e6 * fmean(a['sample_cost_usd'] for a in answers):.2f}",
                f"{1e6 * fmean(a['verdict_cost_usd']['verifier'] for a in answers):.2f}",
                f"{median(a['latency_s'] for a in answers):.2f}",
            ]
        )
    usd = ["USD per million answers", "per million samples", "per million P(True)"]
    return table(["model", "input tokens", "output tokens", *usd, "median seconds"], body)


def signals(examples: Sequence[Example]) -> str:
    """How well each signal alone tells right answers from wrong ones: the area under the ROC curve, with a 95 % interval.

    The answer is the one that stands after the judge: self-consistency puts the largest cluster's in the greedy one's place.
    """
    body = []
    for model in models_of(examples):
        cells = []
        for rule in SIGNALS.values():
            column = asyncio.run(score_table.score_tier(examples, model, [rule]))
            scored = ~np.isnan(column.scores[:, 0])
            area = bootstrap(auroc, column.scores[scored, 0], column.quality[scored, 1], seed=0)
            assert area is not None
            cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*area))
        body.append([model, *cells])
    return table(["answers of", *SIGNALS], body)


def main() -> int:
    """Prints the three tables."""
    examples = list(read(STARTER_RECORDING))
    print(f"{quality(examples)}\n\n{signals(examples)}\n\n{cost(examples)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
