"""What is said at the end of a run: what it cost, what failed and why, what is missing."""

from dataclasses import dataclass

from .checkpoint import Checkpoint
from .recorder import Recorder

_ENDS = {
    "length": ("was", "were", " cut off at the most tokens: 'max_tokens' in the policy file, or its default"),
    "content_filter": ("was", "were", " stopped by the provider's filter"),
    "empty": ("is", "are", " empty"),
    "unlogged": ("came", "came", " without the token log-probabilities that were asked for; the server may give none"),
}


@dataclass(slots=True)
class Failed:
    """How many rows failed in one way, and of the first of them its number and what was said."""

    rows: int
    first: int
    said: str


def failures(work: Checkpoint) -> dict[tuple[str, str, str], Failed]:
    """What failed, by model, part and kind of failure."""
    found: dict[tuple[str, str, str], Failed] = {}
    for model, key in enumerate(work.models):
        for row in range(work.survey.rows):
            if not work.any_failed(row, model):
                continue
            last = {p.name: p for p in work.parts(row, model)}
            for part in last.values():
                if not part.count:
                    kind = str(part.content["kind"])
                    said = str(part.content["said"])
                    # What is said mostly begins with model and kind, which stand before it.
                    said = said.partition(kind)[2].lstrip(":; ") if kind in said else said
                    found.setdefault((key, part.name, kind), Failed(0, row, said)).rows += 1
    return found


def tell(live: Recorder, before: float, max_usd: float | None) -> bool:
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
    ids = _ids(live, {one.first for one in failed.values()})
    for (key, part, kind), one in sorted(failed.items()):
        rows = f"{one.rows:,} rows, the first" if one.rows > 1 else "1 row,"
        said = f": {one.said}" if one.said else ""
        print(f"failed: {key}: {part}: {kind}: {rows} {ids[one.first]!r}{said} (--retry-failed asks again)")
    for (key, end), n in sorted((at, n) for at, n in live.ends.items() if at[1]):
        one_is, more_are, words = _ENDS[end]
        print(f"note: {key}: {n:,} {f'answers of this run {more_are}' if n > 1 else f'answer of this run {one_is}'}{words}")
    stopped = [line.stopped for line in live.lines.values() if line.stopped is not None]
    for why in stopped:
        print(f"stopped: {why}")
    over = live.halt.reason == "budget"
    if over:
        print(f"stopped before --max-usd {max_usd:.6f} was passed")
    under_way = sum(not about.get("done") for about in work.batches.values())
    if under_way:
        print(f"batches under way: {under_way}; the same command collects them")
    if left:
        how = "a higher --max-usd" if over else f"{'once that is put right, ' if stopped else ''}the same command"
        print(f"{left:,} answers are missing; {how} goes on")
    return bool(left or failed)


def _ids(live: Recorder, rows: set[int]) -> dict[int, str]:
    """The ids of these rows of the dataset."""
    found: dict[int, str] = {}
    for row, example in enumerate(live.dataset):
        if len(found) == len(rows):
            break
        if row in rows:
            found[row] = example.id
    return found
