"""Examples a second that replay sends through the real engine on the mmlu recording; prints JSON, fails under 3,000."""

import io
import json
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from evals.replay.command import main as replay

TIERS = "gpt-4o-mini,qwen2.5-72b-instruct,gpt-4o"


def main() -> int:
    """Runs the command and reads the speed that it prints."""
    folder = Path(os.environ.get("CASCADE_RECORDINGS", "../shared/recordings"))
    path = folder / "mmlu.jsonl.gz"
    if not path.is_file():
        print(json.dumps({"replay": {"skipped": f"{path.name} is not there; set CASCADE_RECORDINGS"}}))
        return 0
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        replay([str(path), "--tiers", TIERS])
    match = re.search(r"([\d,]+) rows/s", out.getvalue())
    assert match is not None, out.getvalue()
    speed = int(match[1].replace(",", ""))
    print(json.dumps({"replay": {"examples_per_s": speed, "target": 3000, "ok": speed >= 3000}}))
    return 0 if speed >= 3000 else 1


if __name__ == "__main__":
    sys.exit(main())
