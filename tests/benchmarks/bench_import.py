"""CPU time that `import cascade` adds to a bare interpreter, and what it loads; prints JSON, fails over 100 ms."""

import json
import os
import resource
import statistics
import subprocess
import sys

HEAVY = ("openai", "anthropic", "numpy", "jsonschema", "genai_prices", "aiohttp", "httpx2", "regex", "pydantic")


def cpu_ms(code: str) -> float:
    """CPU milliseconds of one fresh interpreter that runs ``code``."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """Medians of interleaved runs."""
    codes = {"bare": "pass", "import cascade": "import cascade", "and Cascade": "import cascade; cascade.Cascade"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(15):
        for name, code in codes.items():
            times[name].append(cpu_ms(code))
    median = {name: statistics.median(values) for name, values in times.items()}
    show = f"import cascade, sys; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    added = median["import cascade"] - median["bare"]
    result = {
        "bare_ms": round(median["bare"], 1),
        "import_adds_ms": round(added, 1),
        "first_use_adds_ms": round(median["and Cascade"] - median["bare"], 1),
        "heavy_modules_loaded": loaded.split(",") if loaded else [],
        "target_ms": 100,
        "n": 15,
        "ok": added <= 100 and not loaded,
    }
    print(json.dumps({"import": result}))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
