"""What is said at the end of a run: what it cost, what failed and why, what is missing."""

from collections import Counter

from evals.record.live import Live
from evals.record.work import Work


def failures(work: Work) -> Counter[tuple[str, str, str]]:
    """How many rows failed, by model, part and kind of failure."""
    found: Counter[tuple[str, str, str]] = Counter()
    for model, key in enumerate(work.models):
        for row in range(work.survey.rows):
            if work.any_failed(row, model):
                last = {p.name: p for p in work.parts(row, model)}
                found.update((key, p.name, str(p.found["kind"])) for p in last.values() if not p.count)
    return found


def tell(live: Live, before: float, max_usd: float | None) -> bool:
    """Prints it, one line a kind of failure; ``before`` is what earlier runs spent. Whether anything is missing."""
    work, left = live.work, live.left()
    spent = f"${work.spent:.6f} spent" + (f", ${work.spent - before:.6f} of it now" if before else "")
    if work.unpriced:
        spent += f", and {work.unpriced:,} parts of unknown price"
    if work.charged:
        spent += f"; requests that were cut off may have cost up to ${work.charged:.6f} more"
    if work.graded:
        spent += f"; ${work.graded:.6f} more for grades of judge models"
    print(spent)
    failed = failures(work)
    for (key, part, kind), n in sorted(failed.items()):
        print(f"failed: {key}: {part}: {kind}: {n:,} rows (--retry-failed asks again)")
    for line in live.lines.values():
        if line.stopped is not None:
            print(f"stopped: {line.name}: {line.stopped}")
    if live.halt.reason == "budget":
        print(f"stopped before --max-usd {max_usd:g} was passed")
    under_way = sum(not about.get("done") for about in work.batches.values())
    if under_way:
        print(f"{under_way} batches are under way; the same command collects them")
    if left:
        print(f"{left:,} answers are missing; the same command goes on")
    return bool(left or failed)
