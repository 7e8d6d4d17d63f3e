"""What a token costs here: ``python -m evals.demo.starter.price FILE`` measures a GGUF file's prices for record.yaml.

CPU time of the server's process, not time on the clock, so that other work on the cores does not enter. A core's second is
an equal share of the machine's stated price.
"""

import json
import os
import subprocess
import sys
import urllib.request
from statistics import median

USD_PER_HOUR = 0.08
CORES = 2
_ROUNDS = 5
_WORDS = ("order", "river", "seven", "paper", "light", "north", "table", "green", "music", "stone", "cloud")


def main(argv: list[str]) -> int:
    """Prints USD per million tokens of input and of output, each the median of five rounds."""
    if len(argv) != 1:
        print("usage: python -m evals.demo.starter.price FILE", file=sys.stderr)
        return 2
    serve = [sys.executable, "-m", "evals.demo.starter.serve", argv[0], "--slots", "1", "--context", "2048", "--until-eof"]
    with subprocess.Popen(
        serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            # The first round warms up.
            rounds = [_round(process.pid, address, i) for i in range(_ROUNDS + 1)][1:]
        finally:
            process.stdin.close()
    per_core_s = USD_PER_HOUR / 3600 / CORES
    reading, writing = (median(times) for times in zip(*rounds, strict=True))
    print(f"CPU ms a token: input {1000 * reading:.3f}, output {1000 * writing:.3f}")
    print(f"price: {{input_per_mtok: {reading * per_core_s * 1e6:.4f}, output_per_mtok: {writing * per_core_s * 1e6:.4f}}}")
    return 0


def _round(pid: int, address: str, i: int) -> tuple[float, float]:
    """CPU seconds of one input token and of one output token."""
    # A first word of its own for each prompt, so that nothing of it is in the server's cache.
    text = " ".join([str(i), *(_WORDS[(i + k * k) % len(_WORDS)] for k in range(100))])
    began = _cpu_s(pid)
    read = _ask(address, text, 1)["timings"]["prompt_n"]
    halfway = _cpu_s(pid)
    written = _ask(address, text, 65)["timings"]["predicted_n"]
    done = _cpu_s(pid)
    return (halfway - began) / read, (done - halfway) / written


def _ask(address: str, prompt: str, tokens: int) -> dict[str, dict[str, int]]:
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        answer: dict[str, dict[str, int]] = json.load(reply)
    return answer


def _cpu_s(pid: int) -> float:
    """User and system time of a process and its threads, on Linux."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
