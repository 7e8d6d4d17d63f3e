"""A hundred SIGKILLs of random workers under load; JSON. It fails where another request fails or a returned run is lost."""

import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from tests.cascade.gateway.serve.test_supervisor import FILE, kill_often

KILLS = int(os.environ.get("KILLS", "100"))


def main() -> int:
    """Kills, and prints what was answered."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policies.yaml"
        path.write_text(FILE, encoding="utf-8")
        # Workers that die young are replaced after a pause: from time to time each of four gets old enough.
        load = kill_often(path, KILLS, workers=4, pause_s=2.0)
    failed = sum(load.failures.values())
    results = {
        "kills": KILLS,
        "answered": len(load.run_ids),
        "failed_with_their_worker": failed,
        "failed_a_kill": round(failed / KILLS, 2),
        "seconds": round(perf_counter() - began),
    }
    print(json.dumps({"worker_kills": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
