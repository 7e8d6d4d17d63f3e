"""Self-consistency: sample again, cluster by meaning, stop as soon as the leader is settled.

Wang et al. 2023 (self-consistency), Aggarwal et al. 2023 (the Beta stopping rule), Kuhn et al. 2023 (semantic entropy).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from math import comb, log

from .equivalence import KINDS
from .protocol import JudgeInput
from .types import Answer, Verdict
from .votes import EMPTY, answer_key


def beta_stop(a: int, b: int) -> float:
    """P(the cluster of ``a`` votes beats the one of ``b`` in the long run) = 1 - I_{1/2}(a + 1, b + 1), in [0, 1].

    For whole numbers the regularised incomplete beta function is a binomial tail:
    1 - I_{1/2}(a + 1, b + 1) = P(Binomial(a + b + 1, 1/2) <= a).
    """
    n = a + b + 1
    return float(sum(comb(n, k) for k in range(a + 1)) / 2**n)


@dataclass(frozen=True)
class SelfConsistencyJudge:
    """Scores an answer by the share of votes of the largest cluster, and hands back that cluster's representative.

    The judged answer is the first vote. Each request asks for the fewest further samples that could settle the matter if
    they all agreed with the leader, until 1 - I_{1/2}(a + 1, b + 1) >= ``stop_at`` for the two largest clusters a and b, or
    ``samples`` were drawn. ``temperature`` is that of the samples; ``equivalence`` a kind of ``judges.equivalence``.
    Ties go to the judged answer's cluster, then to the one seen first. Empty answers are votes for a cluster of their own,
    which lowers the share of the others but never represents them; where all are empty the score is None.
    ``details``: share, margin (to the largest other cluster's share; negative where most answers are empty),
    semantic_entropy (nats, from the clusters' frequencies), samples (beyond the judged answer), clusters (their number).
    """

    samples: int = 8
    temperature: float = 0.7
    equivalence: str = "auto"
    stop_at: float = 0.95
    name: str = "self_consistency"
    only_vetoes: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.samples, int) or isinstance(self.samples, bool) or self.samples < 1:
            raise ValueError(f"samples must be a whole number from 1 on, got {self.samples!r}")
        if not 0 < self.temperature <= 2:
            raise ValueError(f"temperature must lie in (0, 2], got {self.temperature!r}")
        if not 0.5 < self.stop_at <= 1:
            raise ValueError(f"stop_at must lie in (0.5, 1], got {self.stop_at!r}")
        if self.equivalence not in KINDS:
            raise ValueError(f"equivalence must be one of {', '.join(KINDS)}, got {self.equivalence!r}")

    async def judge(self, case: JudgeInput) -> Verdict:
        """Asks for samples and counts the votes; the score is None where no sample could be had."""
        if case.ask is None:
            return Verdict(self.name, reason="no model to sample from")
        schema = case.prompt.schema
        clusters: dict[Hashable, list[Answer]] = {await answer_key(case.answer, schema, self.equivalence): [case.answer]}
        samples_drawn = 0
        while samples_drawn < self.samples:
            sizes = _sizes(clusters)
            if samples_drawn and beta_stop(sizes[0], sizes[1]) >= self.stop_at:
                break  # never on the judged answer alone
            needed = self._samples_needed(sizes[0], sizes[1], self.samples - samples_drawn)
            answers = await case.ask(case.prompt, n=needed, temperature=self.temperature)
            for answer in answers[:needed]:
                clusters.setdefault(await answer_key(answer, schema, self.equivalence), []).append(answer)
            samples_drawn += min(len(answers), needed)
            if len(answers) < needed:
                break  # nothing further to be had, as where a recording holds fewer
        if samples_drawn == 0:
            return Verdict(self.name, reason="no samples")
        return self._verdict(case.answer, clusters, samples_drawn)

    def _samples_needed(self, a: int, b: int, samples_left: int) -> int:
        """The fewest samples that would settle it if all agreed with the leader, at most ``samples_left``."""
        for extra in range(1, samples_left):
            if beta_stop(a + extra, b) >= self.stop_at:
                return extra
        return samples_left

    def _verdict(self, judged_answer: Answer, clusters: dict[Hashable, list[Answer]], samples_drawn: int) -> Verdict:
        non_empty = {k: members for k, members in clusters.items() if k != EMPTY}
        if not non_empty:
            return Verdict(self.name, reason="every answer is empty", details={"samples": samples_drawn, "clusters": 1})
        # Clusters are in the order of their first answers, the judged answer's first: max() keeps that on ties.
        leader = max(non_empty, key=lambda k: len(non_empty[k]))
        largest, total = non_empty[leader], samples_drawn + 1
        runner_up = max((len(members) for k, members in clusters.items() if k != leader), default=0)
        shares = [len(members) / total for members in clusters.values()]
        return Verdict(
            self.name,
            len(largest) / total,
            answer=None if largest[0] is judged_answer else largest[0],
            details={
                "share": len(largest) / total,
                "margin": (len(largest) - runner_up) / total,
                "semantic_entropy": -sum(p * log(p) for p in shares) + 0.0,
                "samples": samples_drawn,
                "clusters": len(clusters),
            },
        )


def _sizes(clusters: dict[Hashable, list[Answer]]) -> tuple[int, int]:
    ordered = sorted((len(c) for c in clusters.values()), reverse=True)
    return ordered[0], ordered[1] if len(ordered) > 1 else 0
