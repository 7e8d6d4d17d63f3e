"""Consensus: other models answer the same prompt, and the answer that they agree on is scored by their agreement.

The weighted score is the posterior of independent voters with known accuracies (Nitzan & Paroush 1982). Models that make the
same mistakes are not independent: choose models of different families, and fit a calibration, which corrects the score.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from .equivalence import KINDS
from .protocol import AskEach, JudgeInput
from .same_meaning import say_the_same
from .types import Answer, Verdict
from .votes import EMPTY, Vote, vote_of

_LEAST, _MOST = 0.01, 0.99  # accuracies are bounded: one voter must not outweigh any number of others


@dataclass(frozen=True)
class ConsensusJudge:
    """Scores an answer by its agreement with the answers of other models, and returns the answer that most agree on.

    ``models`` (names in the policy) are asked in their order, and no more of them than it takes until ``settle_at`` answers
    say the same (by default the majority of all, the judged answer included) or no longer can. With ``parallel`` all are
    asked at the same time as the tier's own model: faster, and never cheaper. ``equivalence`` is a kind of
    ``judges.equivalence``; ``auto`` compares tool calls by name and arguments, and JSON field by field. ``verifier`` names
    a model that says whether free texts with other words mean the same; without one they do not.

    Without ``accuracies`` the score is the mean agreement of all votes with the leading answer: the share of equal answers,
    where JSON counts by its equal fields. ``accuracies`` (P(right) of the judged model, then of each of ``models``) weigh
    the votes: the score is then the leading answer's posterior, where ``alternatives`` answers are plausible. Ties go to the
    judged answer, then to the model that was asked first. A model that fails has no vote; where none answers the score is
    None. ``details``: votes, agree (how many say the same as the leading answer), clusters (of different answers), models
    (that voted).
    """

    models: Sequence[str]
    parallel: bool = False
    settle_at: int | None = None
    accuracies: Sequence[float] | None = None
    alternatives: int = 10
    equivalence: str = "auto"
    verifier: str | None = None
    name: str = "consensus"
    only_vetoes: bool = False

    def __post_init__(self) -> None:
        models = self.models
        if isinstance(models, str) or not isinstance(models, Sequence) or not models:
            raise ValueError(f"models must be a list of at least one model, got {models!r}")
        if not all(isinstance(model, str) and model for model in models) or len(set(models)) < len(models):
            raise ValueError(f"models must name different models, got {list(models)!r}")
        object.__setattr__(self, "models", tuple(models))
        votes = len(models) + 1
        if self.settle_at is not None and (not _is_whole(self.settle_at) or not 2 <= self.settle_at <= votes):
            raise ValueError(f"settle_at must be a whole number from 2 to {votes}, got {self.settle_at!r}")
        if self.accuracies is not None:
            self._check_accuracies(self.accuracies, votes)
        if not _is_whole(self.alternatives) or self.alternatives < 2:
            raise ValueError(f"alternatives must be a whole number from 2 on, got {self.alternatives!r}")
        if self.equivalence not in KINDS:
            raise ValueError(f"equivalence must be one of {', '.join(KINDS)}, got {self.equivalence!r}")
        if not isinstance(self.parallel, bool):
            raise ValueError(f"parallel must be true or false, got {self.parallel!r}")

    def _check_accuracies(self, accuracies: Sequence[float], votes: int) -> None:
        numbers = isinstance(accuracies, Sequence) and all(
            isinstance(a, int | float) and not isinstance(a, bool) and 0 <= a <= 1 for a in accuracies
        )
        if not numbers or len(accuracies) != votes:
            raise ValueError(f"accuracies must be {votes} numbers in [0, 1], of the judged model first; got {accuracies!r}")
        object.__setattr__(self, "accuracies", tuple(accuracies))

    @property
    def asks_with_answer(self) -> tuple[str, ...]:
        """The models that the engine must ask at the same time as the tier's own."""
        return tuple(self.models) if self.parallel else ()

    async def judge(self, case: JudgeInput) -> Verdict:
        """Asks the other models until enough answers agree, and counts the votes."""
        if case.ask is None:
            return Verdict(self.name, reason="no other model to ask")
        schema = case.prompt.schema
        ballot = _Ballot(self._weights(), self.alternatives)
        ballot.add(0, case.answer, await vote_of(case.answer, schema, self.equivalence))
        asked_models = 0
        while asked_models < len(self.models):
            needed = self._answers_needed(ballot, len(self.models) - asked_models)
            if not needed:
                break
            batch = self.models[asked_models : asked_models + needed]
            for i, answer in enumerate(await _ask_each(case, batch), asked_models + 1):
                if answer is not None:
                    vote = await vote_of(answer, schema, self.equivalence)
                    ballot.add(i, answer, await self._merged(case, ballot, answer, vote))
            asked_models += needed
        return self._verdict(case.answer, ballot)

    def _answers_needed(self, ballot: "_Ballot", models_left: int) -> int:
        """The fewest further answers that may settle it; 0 where it is settled, or no longer can be."""
        if self.parallel:
            return models_left
        settle_at = self.settle_at or (len(self.models) + 1) // 2 + 1
        missing = settle_at - ballot.largest
        if len(ballot.votes) == 1 and missing > models_left:
            return models_left  # the judged answer is empty: what the others say is all there is
        return missing if 0 < missing <= models_left else 0

    async def _merged(self, case: JudgeInput, ballot: "_Ballot", answer: Answer, vote: Vote) -> Vote:
        """The vote itself, or the one of an earlier free text that means the same according to the verifier."""
        if self.verifier is None or not vote.is_free_text or case.ask is None:
            return vote
        earlier: dict[Any, tuple[Answer, Vote]] = {}
        for _, other, other_vote in ballot.votes:
            if other_vote.key == vote.key:
                return vote
            if other_vote.is_free_text:
                earlier.setdefault(other_vote.key, (other, other_vote))
        for other, other_vote in earlier.values():
            if await say_the_same(case.ask, self.verifier, case.prompt, other, answer):
                return other_vote
        return vote

    def _weights(self) -> tuple[float, ...] | None:
        """The log-odds that a vote adds to its answer, for each voter."""
        if self.accuracies is None:
            return None
        bounded = [min(_MOST, max(_LEAST, a)) for a in self.accuracies]
        return tuple(log(a * (self.alternatives - 1) / (1 - a)) for a in bounded)

    def _verdict(self, judged_answer: Answer, ballot: "_Ballot") -> Verdict:
        votes = ballot.votes
        if len(votes) < 2:
            return Verdict(self.name, reason="no other model answered")
        details: dict[str, Any] = {
            "votes": len(votes),
            "clusters": len({vote.key for _, _, vote in votes}),
            "models": [self.models[i - 1] for i, _, _ in votes[1:]],
        }
        leader = ballot.leader()
        if leader is None:
            return Verdict(self.name, reason="every answer is empty", details=details)
        answer, vote, score = leader
        details["agree"] = sum(other.key == vote.key for _, _, other in votes)
        return Verdict(self.name, score, answer=None if answer is judged_answer else answer, details=details)


class _Ballot:
    """The votes so far. ``weights``: the log-odds of each voter's vote; None: all votes count the same."""

    def __init__(self, weights: tuple[float, ...] | None, alternatives: int) -> None:
        self.votes: list[tuple[int, Answer, Vote]] = []
        self._weights, self._alternatives = weights, alternatives

    def add(self, voter: int, answer: Answer, vote: Vote) -> None:
        """Counts a vote; ``voter`` is 0 for the judged model, then the place among the models from 1 on."""
        self.votes.append((voter, answer, vote))

    @property
    def largest(self) -> int:
        """How many answers say the same, at most; empty ones do not count."""
        keys = [vote.key for _, _, vote in self.votes if vote.key != EMPTY]
        return max((keys.count(key) for key in keys), default=0)

    def leader(self) -> tuple[Answer, Vote, float] | None:
        """The first answer of the leading cluster, its vote and its score; None where every answer is empty."""
        clusters: dict[Any, tuple[Answer, Vote]] = {}
        for _, answer, vote in self.votes:
            if vote.key != EMPTY:
                clusters.setdefault(vote.key, (answer, vote))
        if not clusters:
            return None
        if self._weights is None:
            # By equal answers first: three that are nearly the same do not outvote two that are the same.
            counts = {key: sum(other.key == key for _, _, other in self.votes) for key in clusters}
            answer, vote = clusters[max(clusters, key=counts.__getitem__)]  # the first of the largest
            return answer, vote, sum(vote.similarity(other) for _, _, other in self.votes) / len(self.votes)
        support = {
            key: sum(self._weights[voter] * vote.similarity(other) for voter, _, other in self.votes)
            for key, (_, vote) in clusters.items()
        }
        key = max(support, key=support.__getitem__)
        unseen = max(0, self._alternatives - len(support)) * exp(-support[key])
        return *clusters[key], 1.0 / (unseen + sum(exp(z - support[key]) for z in support.values()))


async def _ask_each(case: JudgeInput, models: Sequence[str]) -> Sequence[Answer | None]:
    """One answer of each model to the judged prompt, asked at once; None for a model that failed."""
    ask = case.ask
    assert ask is not None
    if isinstance(ask, AskEach):
        return await ask.each(case.prompt, models)

    async def answer_of(model: str) -> Answer | None:
        answers = await ask(case.prompt, model=model)
        return answers[0] if answers else None

    outcomes = await asyncio.gather(*map(answer_of, models), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, LookupError) or (isinstance(outcome, BaseException) and not isinstance(outcome, Exception)):
            raise outcome
    return [None if isinstance(outcome, BaseException) else outcome for outcome in outcomes]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
