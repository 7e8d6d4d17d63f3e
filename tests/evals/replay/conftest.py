"""What the tests of replays share."""

from collections.abc import Iterator
from functools import partial

import pytest

from evals.replay.statistics import metrics


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> Iterator[None]:
    """Replays with few rounds of the metrics' bootstrap, which would take most of the time and is tested in statistics/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "bootstrap", partial(metrics.bootstrap, rounds=20))
        yield
