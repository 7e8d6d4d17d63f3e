"""Makes starter.jsonl.gz from the raw replies of a llama.cpp server: ``python -m evals.starter.build DIRECTORY``.

The directory holds raw_{smol,qwen05,qwen15}_{greedy,samples}.jsonl, each line ``{"id", "r": <chat completion>}``, and
perhaps raw_*_verifier.jsonl with lines ``{"id", "p", "input_tokens", "output_tokens"}``.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from evals.grade import grade
from evals.recording import Example, write
from evals.starter.first import questions

MODELS = {
    "smol": "smollm2-135m-instruct",
    "qwen05": "qwen2.5-coder-0.5b-instruct",
    "qwen15": "qwen2.5-coder-1.5b-instruct",
}
KINDS = {"arithmetic": "number", "date": "date", "extraction": "json", "sentiment": "choice", "fact": "contains"}
USD_PER_HOUR = 0.08  # stated price of the two-core machine
FILE = Path(__file__).with_name("starter.jsonl.gz")

Replies = dict[str, dict[str, Any]]


def load(directory: Path, model: str, what: str) -> Replies:
    """The raw lines of one model by example id; none where the file does not exist."""
    path = directory / f"raw_{model}_{what}.jsonl"
    if not path.is_file():
        return {}
    return {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def prices(greedy: Replies) -> tuple[float, float]:
    """USD per input and per output token: the median measured time of a token at the machine's price.

    Medians, so that the noise of single measurements does not enter any cost.
    """
    per_ms = USD_PER_HOUR / 3_600_000
    times = [row["r"]["timings"] for row in greedy.values()]
    # The first output token comes out of the prompt's pass, so n tokens take n - 1 steps.
    steps = [t["predicted_ms"] / (t["predicted_n"] - 1) for t in times if t["predicted_n"] > 1]
    return median(t["prompt_ms"] / t["prompt_n"] for t in times) * per_ms, median(steps) * per_ms


def tokens_per_char(greedy: Replies) -> float:
    """Output tokens a character over all greedy answers: the server counts the tokens of the first sample only."""
    chars = sum(len(row["r"]["choices"][0]["message"]["content"]) for row in greedy.values())
    return float(sum(row["r"]["usage"]["completion_tokens"] for row in greedy.values()) / chars)


def recorded(
    row: Mapping[str, Any],
    reply: Mapping[str, Any],
    sampled: Mapping[str, Any] | None,
    verifier: Mapping[str, Any] | None,
    price: tuple[float, float],
    density: float,
) -> dict[str, Any]:
    """One recorded answer with its samples, quality, cost and latency."""
    kind, gold = KINDS[row["task"]], row["reference"]
    choice, usage, timings = reply["choices"][0], reply["usage"], reply["timings"]
    text = choice["message"]["content"]
    # The end-of-sequence token has no text and is not part of the answer.
    logprobs = [min(0.0, round(t["logprob"], 4)) for t in choice["logprobs"]["content"] if t["bytes"]]
    per_input, per_output = price
    made: dict[str, Any] = {
        "text": text,
        "quality": grade(gold, text, kind),
        "finish_reason": choice["finish_reason"],
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
        "cost_usd": _round(usage["prompt_tokens"] * per_input + usage["completion_tokens"] * per_output),
        "latency_s": round((timings["prompt_ms"] + timings["predicted_ms"]) / 1000, 4),
    }
    if logprobs:
        made["logprob"] = round(sum(logprobs) / len(logprobs), 4)
        made["token_logprobs"] = logprobs
    if sampled is not None:
        texts = [c["message"]["content"] for c in sampled["choices"]]
        made["samples"] = [{"text": t, "quality": grade(gold, t, kind)} for t in texts]
        # One request for all samples reads the prompt once; each sample carries its share of that.
        output = sum(len(t) * density + 1 for t in texts)
        made["sample_cost_usd"] = _round((sampled["usage"]["prompt_tokens"] * per_input + output * per_output) / len(texts))
    if verifier is not None and verifier.get("p") is not None:
        made["verdicts"] = {"verifier": round(verifier["p"], 6)}
        usd = verifier["input_tokens"] * per_input + verifier["output_tokens"] * per_output
        made["verdict_cost_usd"] = {"verifier": _round(usd)}
    return made


def _round(usd: float) -> float:
    return float(f"{usd:.6g}")


def build(directory: Path) -> list[Example]:
    """Every question with the three models' answers. Raises KeyError where a greedy reply is missing."""
    answers: dict[str, dict[str, Any]] = {}
    rows = questions()
    for short, name in MODELS.items():
        greedy, samples = load(directory, short, "greedy"), load(directory, short, "samples")
        verifier, price, density = load(directory, short, "verifier"), prices(greedy), tokens_per_char(greedy)
        print(f"{name}: {price[0] * 1e6:.4f} USD/Mtok input, {price[1] * 1e6:.4f} USD/Mtok output")
        for row in rows:
            id = row["id"]
            answers.setdefault(id, {})[name] = recorded(
                row, greedy[id]["r"], samples[id]["r"] if id in samples else None, verifier.get(id), price, density
            )
    return [Example(**{**row, "answers": answers[row["id"]]}, raw={**row, "answers": answers[row["id"]]}) for row in rows]


def main(argv: list[str]) -> int:
    """Writes the file and prints how often each model is right in each family."""
    if len(argv) != 1:
        print("usage: python -m evals.starter.build DIRECTORY", file=sys.stderr)
        return 2
    examples = build(Path(argv[0]))
    write(FILE, examples)
    for name in MODELS.values():
        for task in (*KINDS, ""):
            got = [e.answers[name]["quality"] for e in examples if task in ("", e.task)]
            print(f"{name:30} {task or 'all':11} {sum(got) / len(got):.3f} of {len(got)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
