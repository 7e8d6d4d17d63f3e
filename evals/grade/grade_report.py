"""The report of a grading run: what was graded, and what was not and why."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from evals.common.intervals import wilson

_REASONS = 10


@dataclass(slots=True)
class GradeReport:
    """Qualities by (model, task); ungraded answers by reason, with the first ids; the number of unchanged answers.

    ``unfinished`` counts answers that another run may grade: the judge model failed, or the budget was spent.
    """

    qualities: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    ungraded: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unchanged: int = 0
    unfinished: int = 0

    def miss(self, reason: str, id: str) -> None:
        """Counts an answer that got no grade."""
        self.ungraded[reason] += 1
        if len(self.where[reason]) < 5 and id not in self.where[reason]:
            self.where[reason].append(id)

    def add(self, other: "GradeReport") -> None:
        """Adds the report of the examples that follow."""
        for at, qualities in other.qualities.items():
            self.qualities[at] += qualities
        self.ungraded.update(other.ungraded)
        for reason, ids in other.where.items():
            first = self.where[reason]
            first += [id for id in ids if id not in first][: 5 - len(first)]
        self.unchanged += other.unchanged
        self.unfinished += other.unfinished


def report(tally: GradeReport) -> str:
    """Mean quality by model and task with 95 % intervals (Wilson), and what was not graded."""
    lines = []
    models = list(dict.fromkeys(model for model, _ in tally.qualities))
    width = max((len(m) for m in models), default=0)
    for model in models:
        tasks = sorted(task for m, task in tally.qualities if m == model)
        rows = [("all", [q for t in tasks for q in tally.qualities[model, t]])] if len(tasks) > 1 else []
        for task, qualities in [*((t or "all", tally.qualities[model, t]) for t in tasks), *rows]:
            mean = sum(qualities) / len(qualities)
            low, high = wilson(mean, len(qualities))
            lines.append(f"{model:<{width}}  {task:<20} {mean:.3f}  [{low:.3f}, {high:.3f}]  n = {len(qualities):,}")
    if tally.unchanged:
        lines.append(
            f"{tally.unchanged:,} answers had this grade already and were left unchanged (--regrade grades them again)"
        )
    reasons = tally.ungraded.most_common()
    for reason, count in reasons[:_REASONS]:
        lines.append(f"not graded: {count:,}, {reason}: {', '.join(tally.where[reason])}{' ...' if count > 5 else ''}")
    if len(reasons) > _REASONS:
        lines.append(
            f"not graded: {sum(n for _, n in reasons[_REASONS:]):,} more, for {len(reasons) - _REASONS:,} other reasons"
        )
    return "\n".join(lines) or "nothing was graded"
