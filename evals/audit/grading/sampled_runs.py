"""Which sampled runs can be graded, and which need no grade."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.journal.record import Record
from cascade.promise.sampling import is_sampled
from evals.grade import GradingCase
from judges import Prompt

PREMIUM = "premium"
"""The name of premium's answer in a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRun:
    """A sampled run with the answers that are to be compared.

    Attributes:
        record: The run.
        probability: That with which it was sampled.
        returned: The answer that it returned, as plain data.
        premium: Premium's answer; None where the two are one, or say the same: the loss is 0.
    """

    record: Record
    probability: float
    returned: Mapping[str, Any]
    premium: Mapping[str, Any] | None

    def case(self, answer: Mapping[str, Any], reference: Any) -> GradingCase:
        """One of the two answers, to be graded."""
        prompt = self.record.prompt or {}
        others = {} if self.premium is None else {PREMIUM: str(self.premium["text"])}
        return GradingCase(
            text=str(answer["text"]),
            reference=reference,
            prompt=Prompt(tuple(prompt.get("messages", ())), prompt.get("schema"), tuple(prompt.get("tools") or ())),
            others=others,
            tool_calls=tuple(answer.get("tool_calls") or ()),
        )


@dataclass(slots=True)
class Survey:
    """The sampled runs that are not graded, counted by reason."""

    left_out: dict[str, int]

    def leave_out(self, reason: str) -> None:
        """Counts one run."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def sampled_runs(records: Iterable[Record], policies: Mapping[str, str], survey: Survey) -> Iterator[SampledRun]:
    """The sampled runs that can be graded, in the order of the records.

    A run that premium answered needs no shadow request and has a loss of 0. It counts only where the last shadow request
    before it was done: otherwise a time in which shadowing paused, its budget spent, would count such runs alone.

    Args:
        records: The journal's records, in order, with their shadows.
        policies: The JSON of the policies by hash.
        survey: Counts the runs that are left out.
    """
    reader = SampledRunReader(policies.__getitem__, survey)
    for record in records:
        run = reader.read(record)
        if run is not None:
            yield run


class SampledRunReader:
    """Reads records in order, and says which can be graded; see ``sampled_runs``.

    Args:
        policy: Gives the JSON of a policy by its hash.
        survey: Counts the runs that are left out.
    """

    def __init__(self, policy: Callable[[str], str], survey: Survey) -> None:
        self._policy, self._survey = policy, survey
        self._premiums: dict[str, str] = {}
        self._shadowing: dict[str, bool] = {}

    def read(self, record: Record) -> SampledRun | None:
        """The run with the answers to compare; None where it is not sampled, or cannot be graded."""
        probability = record.sampling_probability
        if record.kind != "run" or probability is None or not is_sampled(record.run_id, probability):
            return None
        premium_tier = self._premium(record.policy_hash)
        done = {shadow["tier"]: shadow["answer"] for shadow in record.shadows if "answer" in shadow}
        if record.prompt is not None and record.shadow_tiers:
            self._shadowing[record.policy] = done.keys() >= set(record.shadow_tiers)
        answers = {attempt["tier"]: attempt["answer"] for attempt in record.attempts if "answer" in attempt} | done
        returned, premium = answers.get(record.tier or ""), answers.get(premium_tier)
        if record.prompt is None:
            self._survey.leave_out("its texts are not stored")
        elif not self._shadowing.get(record.policy, True):
            self._survey.leave_out("it was not shadowed: budget, fault, or a process that ended")
        elif returned is None or premium is None:
            self._survey.leave_out("it returned no answer, or premium gave none")
        else:
            agrees = any(shadow["tier"] == premium_tier and shadow.get("agrees") for shadow in record.shadows)
            same = agrees or record.tier == premium_tier
            return SampledRun(record=record, probability=probability, returned=returned, premium=None if same else premium)
        return None

    def _premium(self, policy_hash: str) -> str:
        if policy_hash not in self._premiums:
            self._premiums[policy_hash] = json.loads(self._policy(policy_hash))["tiers"][-1]["name"]
        return self._premiums[policy_hash]
