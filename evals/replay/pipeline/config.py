"""The settings of a replay."""

from dataclasses import dataclass

from cascade import Policy
from evals.replay.certificate.certified_choice import Method
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.policy_output.own_policy import EmbeddingSource, OwnPolicy

MOST_TIERS = 10
LOSS = 0.02  # what the baselines may lose where the promise is about something else


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """The settings of a replay.

    Args:
        guarantee: The promise; with a menu its ``delta`` alone counts.
        menu: Promises on the loss to be tested together, at least two; empty for one promise.
        choose: The promise of the menu to use; by default the strictest that is proved with a saving.
        seed: The seed of the splits, folds and bootstrap.
        judges: The judges of every tier, each "judge[:option=value...]"; None for those for which the recording has data.
        method: How thresholds are tested; see ``choose_certified``.
        split: "half" or "recorded".
        keep_premium: Whether every cascade must end with the premium tier.
        policy: A policy to measure as it is.
        own: A policy to tune: its judges, tier by tier, and its limits. With ``policy`` it is only measured.
        volume: Prompts a month, for money a month.
        by_task: Whether each task has thresholds of its own; the promise is of the whole.
        by_prompt: Whether the prompt may be evidence of a confidence, and rule out tiers before they are asked; never where
            tasks have thresholds of their own.
        task_tags: Whether callers name each prompt's task, as the recording does; it is then a feature of the prompt.
        max_latency_s: The seconds that 95 % of the runs may take; None: any.
        speculate: Whether tiers may ask the next one at the same time.
        max_task_loss: The largest mean loss of any task; each then has thresholds of its own, too.
        embedding: Where the embeddings of prompts come from; None: prompts are read without.
        promises_whole: Whether ``guarantee`` is promised as well where ``max_task_loss`` is.
    """

    guarantee: Guarantee
    menu: tuple[float, ...] = ()
    choose: float | None = None
    seed: int = 0
    judges: tuple[str, ...] | None = None
    method: Method = "auto"
    split: str = "half"
    keep_premium: bool = False
    policy: Policy | None = None
    own: OwnPolicy | None = None
    volume: float | None = None
    by_task: bool = False
    by_prompt: bool = False
    task_tags: bool = False
    max_latency_s: float | None = None
    speculate: bool = False
    max_task_loss: float | None = None
    promises_whole: bool = False
    embedding: EmbeddingSource | None = None
