"""Decides every record again: its verdicts, by the stored policy, must give the decisions that were taken."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from cascade.engine.attempt import BEFORE, IN_TIME
from cascade.engine.confidence import calibrated, combine
from cascade.engine.decide import decide, decide_before, decide_in_time
from cascade.engine.run import finish
from cascade.engine.tasks import thresholds_of
from cascade.errors import RunError
from cascade.journal.record import Record
from cascade.policy.calibrators import Calibrator, from_json
from cascade.policy.schema import JudgeRule, Policy, TierPolicy
from cascade.policy.thresholds import raised
from cascade.policy.vote_spec import VoteSpec
from cascade.result import ANSWERED, NOT_ASKED, Action, Attempt, Decision
from cascade.util.totals import total
from judges import Answer, Verdict

# What different machines' logarithms may differ by, and sums of the same amounts in another order.
_CLOSE, _CLOSE_USD = 1e-9, 1e-9
_DECIDED = ANSWERED | {"unsure", "vetoed"}


@dataclass(frozen=True, slots=True)
class StoredTier:
    """The parts of a tier that are needed to decide again."""

    name: str
    policy: TierPolicy
    prior: float
    calibrators: tuple[Calibrator, ...]
    judges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as it was stored, with its tiers in order."""

    policy: Policy
    tiers: tuple[StoredTier, ...]

    @classmethod
    def of(cls, hash: str, text: str) -> "StoredPolicy":
        """The policy with this hash. Raises ValueError where the text is not what was hashed.

        Its judges need not be installed: only their thresholds are read.
        """
        if hashlib.sha256(text.encode()).hexdigest()[:16] != hash:
            raise ValueError(f"policy {hash}: what is stored has another hash; it was changed")
        data = json.loads(text)
        tiers = []
        for t in data["tiers"]:
            rules = [JudgeRule.model_construct(**rule) for rule in t["judges"]]
            tiers.append(TierPolicy.model_construct(**{**t, "judges": rules}))
        vote = VoteSpec.model_validate(data["vote"]) if data.get("vote") is not None else None
        policy = Policy.model_construct(**{**data, "tiers": tiers, "vote": vote})
        return cls(policy, tuple(map(_stored_tier, tiers)))


def _stored_tier(tier: TierPolicy) -> StoredTier:
    return StoredTier(
        tier.name,
        tier,
        tier.prior,
        tuple(from_json(mapping) for mapping in tier.confidence or ()),
        tuple(rule.use for rule in tier.judges),
    )


def verify(record: Record, stored: StoredPolicy | None) -> list[str]:
    """The differences between a record and what follows from its verdicts and policy; empty where there are none."""
    if stored is None:
        return [f"its policy {record.policy_hash} is not stored"]
    differences: list[str] = []
    last_action: Action | None = None
    expected = iter(stored.tiers)
    for number, attempt in enumerate(record.attempts):
        where = f"attempts[{number}] ({attempt['tier']})"
        # A gate asks any one tier, a run the tiers in order.
        tier = next((t for t in expected if t.name == attempt["tier"]), None)
        if tier is None:
            return [*differences, f"{where}: the policy has no such tier at this place"]
        last_tier = record.kind == "gate" or tier is stored.tiers[-1]
        last_action, differs = _decided(attempt, tier, last_tier)
        if last_action is Action.ACCEPT:
            differs += _labelled(attempt, "last_tier" if last_tier and record.kind != "gate" else "unjudged")
        differences += [f"{where}: {d}" for d in differs]
        differences += [f"{where}: {d}" for d in _priced(attempt)]
        if last_action is Action.ACCEPT and number < len(record.attempts) - 1:
            differences.append(f"{where}: accepted, yet a further tier was asked")
    differences += _started(record, stored)
    differences += _ended(record, stored.policy, last_action)
    cost = total(a["cost_usd"] for a in record.attempts)
    if (cost is None) != (record.cost_usd is None) or (
        cost is not None and record.cost_usd is not None and not _same_usd(record.cost_usd, cost)
    ):
        differences.append(f"cost_usd is {record.cost_usd!r}, its attempts add up to {cost!r}")
    return differences


def _started(record: Record, stored: StoredPolicy) -> list[str]:
    """What differs from the route that the run followed, where it followed one."""
    place = record.attempts[0].get("route") if record.attempts else None
    if place is None:
        return []
    routes = stored.policy.routes or []
    if place >= len(routes):
        return [f"it followed routes[{place}], which the policy does not have"]
    route: Any = routes[place]
    start = route["start_at"] if isinstance(route, Mapping) else route.start_at
    names = [tier.name for tier in stored.tiers]
    tier = record.attempts[0]["tier"]
    if start in names and tier in names and names.index(tier) < names.index(start):
        return [f"it began at {tier!r}, but routes[{place}] starts at {start!r}"]
    return []


def _decided(attempt: Mapping[str, Any], tier: StoredTier, last_tier: bool) -> tuple[Action | None, list[str]]:
    """The last decision of an attempt, taken again, and what differs from the recorded ones."""
    differences = []
    action: Action | None = None
    thresholds = thresholds_of(tier.policy, attempt.get("task"))
    if thresholds is None:
        return None, [f"the task {attempt['task']!r} skips this tier"]
    thresholds = raised(thresholds, attempt.get("min_confidence"))
    verdicts = [Verdict(v["judge"], v["score"], veto=v["veto"]) for v in attempt["verdicts"]]
    # Where a prompt has tools, their check comes before the tier's own judges.
    before = 1 if verdicts and verdicts[0].judge == "tools" and "tools" not in tier.judges else 0
    decisions = attempt["decisions"]
    for i, logged in enumerate(decisions):
        stage = logged["stage"]
        if stage == BEFORE:
            action = decide_before(thresholds, logged["confidence"])
            if action.value != logged["action"]:
                differences.append(
                    f"before it was asked: {logged['action']!r} was recorded, the policy decides {action.value!r}"
                )
            continue
        if stage == IN_TIME:
            action = _in_time(logged.get("compared") or {})
            if action.value != logged["action"]:
                differences.append(
                    f"in the time left: {logged['action']!r} was recorded, the latencies give {action.value!r}"
                )
            continue
        # A judge's answer that took the place of the first may bring further vetoes, but only before the last decision.
        seen = verdicts if i == len(decisions) - 1 else verdicts[: before + stage + 1]
        vetoed = any(v.veto for v in seen)
        if not tier.calibrators:
            confidence = combine(seen, tier.prior)
        else:
            compared = logged.get("compared")
            confidence = calibrated(tier.calibrators[stage + 1], seen, None if compared is None else dict(compared))
        if not isclose(confidence, logged["confidence"], rel_tol=0.0, abs_tol=_CLOSE):
            differences.append(
                f"stage {stage}: confidence {logged['confidence']!r} was recorded, the verdicts give {confidence!r}"
            )
        if vetoed != logged["vetoed"]:
            differences.append(f"stage {stage}: vetoed={logged['vetoed']} was recorded, the verdicts give {vetoed}")
        action = decide(thresholds, stage, confidence, vetoed=vetoed, last_tier=last_tier)
        if action.value != logged["action"]:
            differences.append(f"stage {stage}: {logged['action']!r} was recorded, the policy decides {action.value!r}")
    if (attempt["reason"] in NOT_ASKED) != (action is Action.SKIP):
        differences.append(f"reason {attempt['reason']!r}, yet the last decision is {action.value if action else 'none'}")
    if attempt["reason"] in _DECIDED and (action is None or action is Action.JUDGE):
        differences.append(f"reason {attempt['reason']!r}, yet no decision ends the attempt")
    if (attempt["reason"] in ANSWERED) != (action is Action.ACCEPT):
        differences.append(f"reason {attempt['reason']!r}, yet the last decision is {action.value if action else 'none'}")
    return action, differences


def _in_time(compared: Mapping[str, float | None]) -> Action:
    left_s = compared.get("left_s")
    return decide_in_time(compared.get("p95_s"), 0.0 if left_s is None else left_s, needed=bool(compared.get("needed")))


def _labelled(attempt: Mapping[str, Any], unjudged: str) -> list[str]:
    """Whether an answer that reached its threshold is called accepted just where a judge scored it."""
    expected = "accepted" if _attempt(attempt).judged else unjudged
    if attempt["reason"] not in ANSWERED or attempt["reason"] == expected:
        return []
    return [f"reason {attempt['reason']!r} was recorded, the verdicts give {expected!r}"]


def _ended(record: Record, policy: Policy, last: Action | None) -> list[str]:
    """The differences in how the run ended, by the engine's own `finish`."""
    if record.error is not None and record.confidence is None:
        return [] if not record.accepted else ["accepted, yet it raised"]
    reason = record.reason
    if record.attempts and (last is Action.ACCEPT or reason in ANSWERED):
        reason = record.attempts[-1]["reason"]  # the run's own reason may be that of the best answer
    attempts = tuple(map(_attempt, record.attempts))
    try:
        again = finish(policy.model_copy(update={"when_unsure": "best"}), attempts, reason, None)  # type: ignore[arg-type]
    except RunError as error:
        return [f"an answer was recorded, yet the attempts give none ({type(error).__name__})"]
    differences = []
    for name in ("accepted", "reason", "tier", "model", "confidence"):
        logged, derived = getattr(record, name), getattr(again, name)
        if logged != derived:
            differences.append(f"{name}: {logged!r} was recorded, the attempts give {derived!r}")
    return differences


def _attempt(data: Mapping[str, Any]) -> Attempt:
    verdicts = tuple(Verdict(v["judge"], v["score"], veto=v["veto"]) for v in data["verdicts"])
    return Attempt(
        tier=data["tier"],
        model=data["model"],
        answer=Answer("") if data["answered"] else None,
        verdicts=verdicts,
        confidence=data["confidence"],
        vetoed=data["vetoed"],
        cost_usd=data["cost_usd"],
        judge_cost_usd=data["judge_cost_usd"],
        latency_s=data["latency_s"],
        calls=data["calls"],
        reason=data["reason"],
        decisions=tuple(
            Decision(d["stage"], d["confidence"], d["vetoed"], Action(d["action"]), d.get("compared"))
            for d in data["decisions"]
        ),
        min_confidence=data.get("min_confidence"),
        cluster=data.get("cluster"),
    )


def _priced(attempt: Mapping[str, Any]) -> list[str]:
    """Whether an attempt's cost is that of its requests, failed ones included; recorded verdicts cost without requests."""
    cost, judged = attempt["cost_usd"], attempt["judge_cost_usd"]
    answers, others = _cost(attempt["call_log"], True), _cost(attempt["call_log"], False)
    unknown = judged is None or answers is None or others is None
    if cost is None or judged is None:
        return [] if unknown else ["cost_usd is unknown, yet every request's cost is known"]
    if answers is None or others is None:
        return [f"cost_usd is {cost!r}, yet a request's cost is unknown"]
    differences = []
    if not _same_usd(cost, answers + judged):
        differences.append(f"cost_usd is {cost!r}, its answers and judges add up to {answers + judged!r}")
    if judged < others and not _same_usd(judged, others):
        differences.append(f"judge_cost_usd is {judged!r}, its judges' requests add up to {others!r}")
    return differences


def _cost(calls: Sequence[Mapping[str, Any]], answers: bool) -> float | None:
    return total(c["cost_usd"] for c in calls if (c["purpose"] == "answer") is answers)


def _same_usd(a: float, b: float) -> bool:
    return isclose(a, b, rel_tol=_CLOSE_USD, abs_tol=1e-12)
