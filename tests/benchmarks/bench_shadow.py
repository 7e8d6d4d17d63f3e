"""What shadowing adds to a run that is not sampled, in CPU time of the run's own thread; prints JSON, fails above 15 us."""

import asyncio
import json
import statistics
import sys
import tempfile
from time import thread_time

from cascade import Answer, Cascade, Policy, Prompt, ScriptedModel, Usage

GOOD = Answer("42", mean_logprob=-0.01, finish_reason="stop", cost_usd=1e-5, usage=Usage(100, 10))
ROUNDS, RUNS, MOST_US = 30, 300, 15.0
# Uneven probabilities and a stratum: the dearest that a policy can ask for. Next to nothing is sampled.
SHADOW = {
    "share": 1e-9,
    "floor": 1e-10,
    "strata": [{"tags": {"task": "contract"}, "share": 1e-9}],
    "budget_usd_per_day": 1.0,
}


def make(folder: str, shadow: dict[str, object] | None) -> Cascade:
    """Two tiers with a journal; the first answer is accepted."""
    tiers = [
        {"name": name, "model": name, "accept_at": 0.5, "judges": ["rules", "logprob"]} for name in ("cheap", "premium")
    ]
    models = {name: ScriptedModel(name, [GOOD], keep_calls=False) for name in ("cheap", "premium")}
    policy = Policy.model_validate({"tiers": tiers, "shadow": shadow})
    return Cascade(policy, models=models, journal=f"sqlite:///{folder}/{shadow is not None}.db")


async def per_run_us(service: Cascade, prompt: Prompt) -> float:
    """Microseconds of one run in this thread, the mean of RUNS."""
    begin = thread_time()
    for _ in range(RUNS):
        await service.arun(prompt)
    seconds = thread_time() - begin
    service._journal.flush()  # type: ignore[union-attr]
    return seconds / RUNS * 1e6


async def measure(folder: str) -> dict[str, float]:
    """Medians over interleaved rounds."""
    plain, shadowed = make(folder, None), make(folder, SHADOW)
    prompt = Prompt.of("What is 6 * 7?")
    pairs = [(await per_run_us(plain, prompt), await per_run_us(shadowed, prompt)) for _ in range(ROUNDS)]
    await plain.aclose()
    await shadowed.aclose()
    return {
        "plain_us": statistics.median(a for a, _ in pairs),
        "not_sampled_us": statistics.median(b for _, b in pairs),
        "added_us": statistics.median(b - a for a, b in pairs),
    }


def main() -> int:
    """Measures and compares with the target."""
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(folder))
    ok = results["added_us"] <= MOST_US
    rounded = {name: round(us, 2) for name, us in results.items()}
    print(json.dumps({"shadow": {**rounded, "most_us": MOST_US, "n": ROUNDS * RUNS, "ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
