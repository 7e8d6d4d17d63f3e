"""Every fault, in every tier, of both providers, at every rate: an answer in time, and every cent accounted for."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cascade import Cascade
from cascade.errors import DeadlineError, ProviderError
from cascade.policy import PolicyFile
from cascade.result import Result

from . import matrix
from .accounts import Ended, audit
from .matrix import CELLS, GOOD, TIERS, WEAK
from .process import FaultServer, Served
from .replies import FAULTS, Plan

N = 3  # runs of a cell
BOTH = pytest.mark.parametrize("provider", matrix.PROVIDERS)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """A process that lives for this module."""
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def played(server: FaultServer) -> tuple[list[Ended], list[Served]]:
    """The whole matrix, once and all at the same time, and what the server served."""
    server.plan(matrix.plans(CELLS))

    async def go() -> list[Ended]:
        async with Cascade(matrix.policies(server, CELLS)) as cascade:
            return await matrix.run(cascade, CELLS, N)

    return asyncio.run(go()), list(server.ledger().entries)


@pytest.mark.parametrize("fault", FAULTS)
def test_matrix(played: tuple[list[Ended], list[Served]], fault: str) -> None:
    """With two healthy tiers every run returns an answer, in time, and its costs are those that the server billed."""
    of = {i for i, cell in enumerate(CELLS) if cell.fault == fault}
    ended = [e for e in played[0] if e.number % len(CELLS) in of]
    found = audit(ended, [s for s in played[1] if s.run % len(CELLS) in of])
    assert not found.wrong, "\n".join(found.wrong[:10])
    assert found.runs == found.answered == N * len(of)
    assert found.faults >= found.runs / 3  # a third of the cells have nothing but faults
    assert found.worst_late_s < 0.1
    assert found.cents_apart == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_tier_is_no_quality_escalation(played: tuple[list[Ended], list[Served]], fault: str) -> None:
    """The attempt says provider_failure, the tiers around it are judged as ever, and the last answer is the right one."""
    for ended in played[0]:
        cell = CELLS[ended.number % len(CELLS)]
        if (cell.fault, cell.rate) != (fault, 1.0):
            continue
        reasons = dict.fromkeys(TIERS[: TIERS.index(cell.broken)], "vetoed") | {cell.broken: "provider_failure"}
        result = ended.outcome
        assert isinstance(result, Result)
        assert {a.tier: a.reason for a in result.attempts if a.reason != "accepted"} == reasons
        last = cell.broken == "premium"
        assert (result.accepted, result.text) == (not last, WEAK if last else GOOD)
        assert result.reason == ("provider_failure" if last else "accepted")


def ladder(server: FaultServer, plans: dict[str, tuple[str, Plan]], timeout_s: float = 0.2, **more: Any) -> PolicyFile:
    """A policy with a tier for each of ``plans``, by (provider, plan), named like its model."""
    server.plan({name: plan for name, (_, plan) in plans.items()})
    models = {name: matrix.spec(server, name, provider, plan, timeout_s) for name, (provider, plan) in plans.items()}
    policy = {"tiers": matrix.tiers((name, name) for name in plans), "deadline_s": 4.0, **more}
    return PolicyFile.model_validate({"models": models, "policies": {"default": policy}})


def runs(file: PolicyFile, n: int = 1) -> list[Ended]:
    """Runs of the one policy, all at once, through a Cascade of their own."""

    async def go() -> list[Ended]:
        await matrix.load_sdks()
        seconds = file.policies["default"].deadline_s or 60.0
        async with Cascade(file) as cascade:
            return await asyncio.gather(*(matrix.one(cascade, "default", i, seconds) for i in range(n)))

    return asyncio.run(go())


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
def test_all_tiers_down(server: FaultServer, provider: str, fault: str) -> None:
    """One error, of one kind, which names every tier and what was wrong with it."""
    (ended,) = runs(ladder(server, {tier: (provider, Plan(faults=(fault,))) for tier in TIERS}))
    assert type(ended.outcome) is ProviderError
    assert all(f"{tier} ({tier}): {tier}: " in str(ended.outcome) for tier in TIERS)
    assert [a.reason for a in ended.outcome.attempts] == ["provider_failure"] * 3
    assert ended.late_s < 0.1
    found = audit([ended], server.ledger().entries)
    assert found.wrong == [f"default: {ended.problem()}"]  # the accounts are right nevertheless
    assert found.cents_apart == 0


@BOTH
@pytest.mark.parametrize("fault", ["hang", "drip", "429_retry_after"])
def test_the_deadline_ends_a_run(server: FaultServer, provider: str, fault: str) -> None:
    """Slow tiers whose timeouts are longer than the deadline: it holds, for fifty runs at once."""
    plans = {tier: (provider, Plan(faults=(fault,))) for tier in TIERS}
    for ended in runs(ladder(server, plans, timeout_s=30.0, deadline_s=0.5), 50):
        assert isinstance(ended.outcome, DeadlineError | ProviderError)
        assert ended.late_s < 0.1
        assert isinstance(ended.outcome, DeadlineError) or fault == "429_retry_after"


@BOTH
def test_the_deadline_leaves_the_best_answer(server: FaultServer, provider: str) -> None:
    """A rejected answer is better than none when the next tier hangs; what the cancelled request costs is unknown."""
    plans = {"cheap": (provider, Plan(WEAK)), "premium": (provider, Plan(faults=("hang",)))}
    (ended,) = runs(ladder(server, plans, timeout_s=30.0, deadline_s=0.5))
    result = ended.outcome
    assert isinstance(result, Result)
    assert (result.text, result.accepted, result.reason, result.cost_usd) == (WEAK, False, "deadline", None)
    assert ended.late_s < 0.1


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rule", ["escalate", "ignore"])
def test_a_judge_that_is_down(server: FaultServer, provider: str, fault: str, rule: str) -> None:
    """The verifier's own model fails: a judge_failure, never a low score, and its requests are in the accounts."""
    plans = {"cheap": (provider, Plan()), "premium": (provider, Plan()), "judge": (provider, Plan(faults=(fault,)))}
    file = ladder(server, plans)
    judged = {"name": "cheap", "model": "cheap", "accept_at": 0.5, "judges": [{"use": "verifier", "model": "judge"}]}
    policy = {"tiers": [judged, *matrix.tiers([("premium", "premium")])], "on_judge_error": rule, "deadline_s": 4.0}
    (ended,) = runs(PolicyFile.model_validate({**file.model_dump(), "policies": {"default": policy}}))
    result = ended.outcome
    assert isinstance(result, Result)
    assert (result.text, result.accepted) == (GOOD, True)
    reasons = {"escalate": ["judge_failure", "accepted"], "ignore": ["accepted"]}
    assert [a.reason for a in result.attempts] == reasons[rule]
    assert all(v.score is None for v in result.attempts[0].verdicts)
    found = audit([ended], server.ledger().entries)
    assert not found.wrong, found.wrong
