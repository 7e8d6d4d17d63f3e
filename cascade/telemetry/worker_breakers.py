"""The circuit breakers of all processes that share ``PROMETHEUS_MULTIPROC_DIR``: the workers of one gateway."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cascade.resilience.breaker import BreakerState

from .metrics import BREAKER_GAUGE, BREAKER_STATES

_SEVERITY = sorted(BREAKER_STATES, key=BREAKER_STATES.__getitem__)


def all_breakers(own: Mapping[str, BreakerState]) -> dict[str, Counter[BreakerState]]:
    """How many processes have each model's breaker in each state.

    Args:
        own: The states in this process, by model. Models that it does not have are left out.
    """
    states: dict[str, Counter[BreakerState]] = {model: Counter([state]) for model, state in own.items()}
    for model, state in _of_others():
        if model in states:
            states[model][state] += 1
    return states


def worst(states: Iterable[BreakerState]) -> BreakerState:
    """The state furthest from closed."""
    return max(states, key=_SEVERITY.index)


def _of_others() -> Iterable[tuple[str, BreakerState]]:
    """The states that other live processes report; a process's file is removed once it has ended."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    from prometheus_client.mmap_dict import MmapedDict

    names = {value: name for name, value in BREAKER_STATES.items()}
    for file in Path(folder).glob("gauge_livemax_*.db"):
        if file.stem == f"gauge_livemax_{os.getpid()}":
            continue
        with suppress(OSError, ValueError):  # it ended just now
            for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                metric, _, labels, *_ = json.loads(key)
                if metric == BREAKER_GAUGE and value in names:
                    yield labels["model"], names[value]
