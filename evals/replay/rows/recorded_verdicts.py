"""Recorded verdicts of judges that are not installed here: a test run, or a checker of your own that ran elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from evals.recording import Example
from judges import Answer, Prompt, registry
from judges.protocol import FunctionJudge

BUILT_IN = ("schema", "rules", "logprob", "self_consistency", "verifier", "tools", "consensus")


def verdict_names(examples: Sequence[Example], model: str) -> list[str]:
    """The names of the scores recorded with a model's answers, apart from those of built-in judges."""
    names = dict.fromkeys(
        name
        for example in examples
        for name, score in (example.answers.get(model, {}).get("verdicts") or {}).items()
        if score is not None
    )
    return [name for name in names if name not in BUILT_IN]


def _no_score(prompt: Prompt, answer: Answer) -> None:
    """Replaces a judge that cannot be run here: an answer without its recorded verdict has no score."""


@contextmanager
def recorded_judges(examples: Sequence[Example], models: Sequence[str]) -> Iterator[list[str]]:
    """Registers a placeholder for each judge that is not installed, so that its recorded verdicts are replayed.

    Args:
        examples: The rows of the recording.
        models: The models whose verdicts are replayed.

    Yields:
        The names of the judges that are not installed.
    """
    names = list(dict.fromkeys(n for model in models for n in verdict_names(examples, model)))
    with placeholders(names) as missing:
        yield missing


@contextmanager
def placeholders(names: Sequence[str]) -> Iterator[list[str]]:
    """Registers a placeholder for each of the judges that is not installed.

    Args:
        names: The judges.

    Yields:
        The names of those that are not installed.
    """
    installed = set(registry.names())
    missing = [name for name in dict.fromkeys(names) if name not in installed]
    for name in missing:
        registry.register(name, partial(FunctionJudge, name, _no_score))
    try:
        yield missing
    finally:
        for name in missing:
            registry.unregister(name)
