"""The figures of the data card, from the recording itself: ``python -m evals.starter.card`` prints its tables."""

import sys
from collections.abc import Sequence
from statistics import fmean, median

from evals.recording import Example, models_of, read
from evals.replay import STARTER


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
        sampled = [a["sample_cost_usd"] for a in answers if a.get("samples")]
        body.append(
            [
                model,
                f"{fmean(u['input_tokens'] for u in usage):.1f}",
                f"{fmean(u['output_tokens'] for u in usage):.1f}",
                f"{1e6 * fmean(a['cost_usd'] for a in answers):.2f}",
                f"{1e6 * fmean(sampled):.2f}" if sampled else "none drawn",
                f"{median(a['latency_s'] for a in answers):.2f}",
            ]
        )
    head = ["model", "input tokens", "output tokens", "USD per million answers", "USD per million samples", "median seconds"]
    return table(head, body)


def main() -> int:
    """Prints both tables."""
    examples = list(read(STARTER))
    print(f"{quality(examples)}\n\n{cost(examples)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
