"""Which calibration a run of a policy with a canary has."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from cascade.errors import UnsureError
from cascade.result import Arm, Result, new_run_id

from .plan import CanaryPlan, CompiledPolicy

_BYTES = 7
_NUMBERS = float(256**_BYTES)


class Assignment(NamedTuple):
    """Which calibration a run has.

    Attributes:
        run_id: The run's id.
        arm: "candidate" or "present".
    """

    run_id: str
    arm: Arm


def assigned(
    compiled: CompiledPolicy, plan: CanaryPlan, tags: Mapping[str, object] | None
) -> tuple[CompiledPolicy, Assignment]:
    """Chooses a new run's calibration.

    Args:
        compiled: The policy with the present calibration.
        plan: Its canary.
        tags: The run's tags.

    Returns:
        The policy with the chosen calibration; the run's id and its arm.
    """
    run_id = new_run_id()
    if not is_candidate(plan, run_id, tags):
        return compiled, Assignment(run_id, "present")
    return plan.candidate, Assignment(run_id, "candidate")


def is_candidate(plan: CanaryPlan, run_id: str, tags: Mapping[str, object] | None) -> bool:
    """Whether a run has the candidate, by a hash of the plan's tag, or of the run's id where it has no such tag."""
    unit = run_id if tags is None else tags.get(plan.tag, run_id)
    digest = sha256(f"{plan.salt} {unit}".encode(errors="backslashreplace")).digest()
    return int.from_bytes(digest[:_BYTES]) < plan.share * _NUMBERS


async def with_arm(work: Callable[..., Awaitable[Result]], arm: Arm, **options: object) -> Result:
    """``work(**options)``, with the arm in its result, also in one that an UnsureError holds."""
    try:
        result = await work(**options)
    except UnsureError as error:
        error.result = replace(error.result, canary=arm)
        raise
    return replace(result, canary=arm)
