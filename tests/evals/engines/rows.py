"""A recording of any length: two models' answers to sums and words, with log-probabilities, samples and conversations."""

import json
import random
from pathlib import Path
from typing import Any


def row(number: int, *, seed: int = 0) -> dict[str, Any]:
    """One line of it."""
    draw = random.Random(number * 1000 + seed)
    answers = {}
    for model, right, usd in (("small", 0.7, 1e-5), ("large", 0.95, 1e-4)):
        is_right = draw.random() < right
        text = str(number) if is_right else str(number + draw.randint(1, 9))
        answers[model] = {
            "text": text,
            "quality": float(is_right),
            "logprob": -0.1 * draw.random() if is_right else -0.1 - draw.random(),
            "cost_usd": usd * (1 + draw.random()),
            "latency_s": draw.random(),
        }
    task = ("sums", "words")[number % 2]
    return {"id": f"r{number}", "task": task, "prompt": f"{task} {number} = ?", "reference": str(number), "answers": answers}


def write_rows(path: Path, n: int) -> Path:
    """Writes n lines."""
    with path.open("w") as file:
        file.writelines(json.dumps(row(i)) + "\n" for i in range(n))
    return path
