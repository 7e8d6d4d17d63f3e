"""The choice of a cascade: the tuner and the promise that the settings ask for, and notes on latency."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from evals.recording import Example
from evals.replay.by_task.promise import choose_for_each_task, choose_for_whole_and_each_task
from evals.replay.by_task.tuner import TaskTuner, tasks_of
from evals.replay.certificate.certified_choice import TunerFactory, choose_certified, choose_from_menu
from evals.replay.certificate.guarantee import CertifiedChoice
from evals.replay.latency import check_latencies, choose_speculation, p95, with_percentiles
from evals.replay.prompt_columns import prompt_notes, with_prompts
from evals.replay.prompt_predictor import EmbeddingColumns
from evals.replay.rows.input_rows import ReplayError
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.tuning.by_prompt import PromptTuner

from .config import ReplayConfig


def choose_cascade(
    scores: dict[str, list[TierScores]],
    rows: Sequence[Example],
    splits: Splits,
    config: ReplayConfig,
    embeddings: EmbeddingColumns | None = None,
) -> CertifiedChoice | None:
    """Tunes and certifies what the settings ask for; None for a policy that is only measured.

    Args:
        scores: The scores of each tier, cheapest first, the premium tier last.
        rows: The rows that were scored.
        splits: Their parts; nothing is learned from those to test on.
        config: The settings of the replay.
        embeddings: The embeddings of the rows' prompts; None: there are none.

    Raises:
        ReplayError: The scores do not allow what the settings ask for.
    """
    for flag, is_set in {"--max-latency": config.max_latency_s is not None, "--speculate": config.speculate}.items():
        if is_set:
            check_latencies(scores, flag)
    if config.policy is not None:
        return None
    looks_at_prompts = config.by_prompt and not config.by_task and config.max_task_loss is None
    if looks_at_prompts or config.speculate:
        has_rules = config.own is not None and bool(config.own.policy.tasks.rules)
        scores = with_prompts(scores, rows, has_tasks=config.task_tags or has_rules, embeddings=embeddings)
    if config.max_task_loss is not None:
        choice = _choose_by_task(scores, rows, splits, config)
    else:
        choice = _choose_for_all(scores, rows, splits, config)
    choice = replace(choice, notes=(*choice.notes, *prompt_notes(scores, splits.fit, config.seed)))
    if config.speculate or config.max_latency_s is not None:
        choice = _with_latency(choice, splits, config)
    return choice


def _choose_by_task(
    scores: dict[str, list[TierScores]], rows: Sequence[Example], splits: Splits, config: ReplayConfig
) -> CertifiedChoice:
    """The cascade with a promise for each task, and for the whole where the settings ask for both."""
    assert config.max_task_loss is not None
    row_tasks = tasks_of([e.task for e in rows])
    if config.promises_whole:
        return choose_for_whole_and_each_task(
            scores, splits, config.guarantee.value, config.max_task_loss, config.guarantee.delta, row_tasks=row_tasks,
            seed=config.seed,
        )  # fmt: skip
    return choose_for_each_task(
        scores, splits, config.max_task_loss, config.guarantee.delta, row_tasks=row_tasks, seed=config.seed
    )


def _choose_for_all(
    scores: dict[str, list[TierScores]], rows: Sequence[Example], splits: Splits, config: ReplayConfig
) -> CertifiedChoice:
    """The cascade with one promise for all prompts, which may be chosen from a menu."""
    must_end = list(scores)[-1] if config.keep_premium else None
    tuner_class = _tuner_class(rows, config)
    if config.menu and len(scores) > 1:
        choice = choose_from_menu(
            scores,
            splits,
            config.menu,
            config.guarantee.delta,
            choose=config.choose,
            seed=config.seed,
            must_end=must_end,
            tuner_class=tuner_class,
        )
    else:
        choice = choose_certified(
            scores,
            splits,
            config.guarantee,
            seed=config.seed,
            must_end=must_end,
            method="split" if config.speculate else config.method,
            tuner_class=tuner_class,
        )
    if config.method == "preset" and choice.method != "preset":
        raise ReplayError(
            "--method preset: the fixed grid needs two tiers and one judge that gives scores; choose them with --tiers "
            "and --judges, such as --judges rules,logprob, or leave --method out"
        )
    return choice


def _tuner_class(rows: Sequence[Example], config: ReplayConfig) -> TunerFactory:
    if config.max_latency_s is not None:
        return partial(PromptTuner, max_latency_s=config.max_latency_s, skips=not config.speculate)
    if config.speculate:
        return partial(PromptTuner, skips=False)
    if config.by_task:
        return partial(TaskTuner, row_tasks=tasks_of([e.task for e in rows]))
    return PromptTuner


def _with_latency(choice: CertifiedChoice, splits: Splits, config: ReplayConfig) -> CertifiedChoice:
    """Adds notes on latency, and lets a tier ask the next one at the same time, which changes no answer."""
    chosen, notes = with_percentiles(choice.chosen, splits.calibration), list(choice.notes)
    if config.speculate:
        chosen, note = choose_speculation(chosen, splits.calibration)
        notes.append(note)
    predicted = p95(chosen.outcome(splits.calibration).latency_s)
    if config.max_latency_s is not None and predicted is not None and predicted > config.max_latency_s:
        notes.append(
            f"--max-latency {config.max_latency_s:g} s is not kept: 95 % of the runs take up to {predicted:.3g} s, since no "
            "ladder in time could be certified to cost less than premium alone"
        )
    return replace(choice, chosen=chosen, notes=tuple(notes))
