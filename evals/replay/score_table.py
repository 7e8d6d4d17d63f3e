"""One pass of the real engine over a recording -> a columnar score table: what every judge said of every answer.

Everything that tuning does afterwards is arithmetic on these columns. A pass is cached by the content of the recording and
the judges, so that a second look at the same recording costs nothing.
"""

import hashlib
import inspect
import json
import os
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

import cascade
import judges
from cascade import Cascade, Policy
from cascade.models.protocol import Request
from cascade.models.recorded import RecordedModel
from cascade.policy.schema import JudgeRule
from evals.recording import Example
from judges import Answer
from judges.reading import split_reasoning
from judges.votes import EMPTY, cluster_key

from .prompt_predictor import PromptTable
from .rows.input_rows import ReplayError, Rules

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
FORMAT = 3
_DECIDING = (
    "engine/attempt.py",
    "engine/calls.py",
    "engine/other_answers.py",
    "models/recorded.py",
)  # of cascade: a judge's input, and how its verdict is used


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # asyncio.run() takes the repr of what it returns
class TierScores:
    """One model's answers to n rows, judged by one list of judges (stages 1..S; stage 0 is before the first).

    ``scores`` (n, S): what judge s said, NaN where it could not tell or was not asked. ``vetoed`` (n, S + 1): whether the
    answer was vetoed by stage s. ``quality`` (n, S + 1): of the answer that stood after stage s, in [0, 1]. ``cost_usd`` and
    ``latency_s`` (n, S + 1): of it with all judging so far; NaN where unknown.
    ``meaning`` (n, S + 1): the answer's meaning as a hash, equal where ``judges.equivalence`` calls two answers the same.
    ``prompts``: the features of the rows' prompts; None where prompts are not looked at.
    ``keeps_judges``: whether a last tier runs all of the judges, since a policy says so; otherwise only those that are free.
    """

    model: str
    rules: tuple[Mapping[str, Any], ...]
    names: tuple[str, ...]
    scores: Array
    vetoed: Flags
    quality: Array
    cost_usd: Array
    latency_s: Array
    meaning: npt.NDArray[np.int64]
    keeps_judges: bool = False
    prompts: PromptTable | None = None

    def __repr__(self) -> str:
        return f"TierScores({self.model!r}, judges {list(self.names)}, {len(self.vetoed)} rows)"

    def take(self, rows: npt.NDArray[np.int64]) -> "TierScores":
        """The same for some of the rows."""
        return replace(
            self,
            scores=self.scores[rows],
            vetoed=self.vetoed[rows],
            quality=self.quality[rows],
            cost_usd=self.cost_usd[rows],
            latency_s=self.latency_s[rows],
            meaning=self.meaning[rows],
            prompts=None if self.prompts is None else self.prompts.take(rows),
        )

    def first_judges(self, stages: int) -> "TierScores":
        """The same with the first judges only."""
        upto = slice(stages + 1)
        return replace(
            self,
            rules=self.rules[:stages],
            names=self.names[:stages],
            scores=self.scores[:, :stages],
            vetoed=self.vetoed[:, upto],
            quality=self.quality[:, upto],
            cost_usd=self.cost_usd[:, upto],
            latency_s=self.latency_s[:, upto],
            meaning=self.meaning[:, upto],
        )

    @property
    def n_free(self) -> int:
        """How many judges come before the first that costs money."""
        for stage in range(1, self.cost_usd.shape[1]):
            if np.any(self.cost_usd[:, stage] > self.cost_usd[:, stage - 1] * (1 + 1e-12)):
                return stage - 1
        return len(self.rules)

    @property
    def n_last(self) -> int:
        """How many judges run where the tier is the last one: its answer is returned in any case."""
        return len(self.rules) if self.keeps_judges else self.n_free

    @property
    def drops_vetoes(self) -> bool:
        """Whether the free judges alone would leave out a judge that vetoes."""
        dear = self.rules[self.n_free :]
        return any(judges.make(rule["use"], **_options(rule)).only_vetoes for rule in dear)


ARRAYS = ("scores", "vetoed", "quality", "cost_usd", "latency_s", "meaning")
"""The columns of ``TierScores`` that have an entry for each row."""


async def score_tier(
    examples: Sequence[Example], model: str, rules: Rules, on_row: Callable[[], None] = lambda: None
) -> TierScores:
    """Every row's answer of ``model``, judged by ``rules`` through the engine. Raises ReplayError, PolicyError."""
    policy = Policy.model_validate(
        {"tiers": [{"model": model, "judges": rules}], "on_judge_error": "ignore", "max_calls": 1000}
    )
    recorded = RecordedModel(model, model, {e.id: without_clock(e.answers[model]) for e in examples})
    judge_names = tuple(judges.make(rule["use"], **_options(rule)).name for rule in rules)
    n, stages = len(examples), len(rules)
    scores = np.full((n, stages), np.nan)
    vetoed = np.zeros((n, stages + 1), dtype=bool)
    quality, cost, latency = (np.full((n, stages + 1), np.nan) for _ in range(3))
    meaning = np.zeros((n, stages + 1), dtype=np.int64)
    others = other_models(rules, examples, {model})
    async with Cascade(policy, models={model: recorded, **others}) as judged:
        for i, example in enumerate(examples):
            prompt = example.to_prompt()
            attempt = await judged.attempt(model, prompt)
            if attempt.error is not None:
                raise ReplayError(f"example {example.id!r}, model {model!r}: {attempt.error}")
            answer = example.answers[model]
            quality[i], cost[i] = answer["quality"], _or_nan(answer.get("cost_usd"))
            latency[i] = _or_nan(answer.get("latency_s"))
            meaning[i] = _meaning_of((await recorded.answer(prompt, Request()))[0])
            vetoed[i] = attempt.vetoed and not attempt.stages  # a wrong tool call, before the first judge
            for s, stage in enumerate(attempt.stages, 1):
                graded = None if stage.answer is None else stage.answer.extra.get("quality")
                if graded is None:
                    raise ReplayError(
                        f"example {example.id!r}, model {model!r}: judge {stage.judge!r} chose a sample that is not graded; "
                        "grade the samples, or leave the judge out by --judges"
                    )
                # What a veto cut short stays as it was: the engine would not have asked the further judges either.
                quality[i, s:], vetoed[i, s:] = graded, stage.vetoed
                cost[i, s:], latency[i, s:] = _or_nan(stage.cost_usd), _or_nan(stage.latency_s)
                meaning[i, s:] = _meaning_of(stage.answer) if stage.answer is not None else 0
            by_judge = {v.judge: v.score for v in attempt.verdicts}
            scores[i] = [_or_nan(by_judge.get(name)) for name in judge_names]
            on_row()
    return TierScores(
        model=model,
        rules=tuple(rules),
        names=judge_names,
        scores=scores,
        vetoed=vetoed,
        quality=quality,
        cost_usd=cost,
        latency_s=latency,
        meaning=meaning,
    )


def other_models(
    rules: Sequence[Mapping[str, Any]], examples: Sequence[Example], known_models: Set[str]
) -> dict[str, RecordedModel]:
    """The models that the judges of ``rules`` ask, apart from ``known_models``, with their recorded answers."""
    names = {name for rule in rules for name in JudgeRule.model_validate(rule).model_names} - known_models
    return {
        name: RecordedModel(name, name, {e.id: without_clock(e.answers[name]) for e in examples if name in e.answers})
        for name in sorted(names)
    }


def without_clock(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recorded answer with NaN for a latency that is unknown, its own or a sample's, so that whatever adds it up is NaN.

    Without one the engine would take its own clock's, which says nothing of a recording and is another in every replay.
    """
    samples = answer.get("samples") or ()
    if answer.get("latency_s") is None:
        answer = {**answer, "latency_s": np.nan}
    if any(sample.get("latency_s") is None for sample in samples):
        answer = {**answer, "samples": [{**sample, "latency_s": np.nan} for sample in samples]}
    return answer


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _meaning_of(answer: Answer) -> int:
    """A hash of what an answer says: of its tool calls where it has some, else of its text."""
    return _hash(cluster_key(answer)) if answer.tool_calls else _meaning(answer.text)


@lru_cache(maxsize=64)
def _meaning(text: str) -> int:
    return _hash(cluster_key(Answer(split_reasoning(text).answer)))


def _hash(key: Hashable) -> int:
    """62 bits, so that two of a million keys collide with probability 1e-7."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 2


NO_MEANING = _hash(EMPTY)
"""The meaning of an empty answer."""


def _options(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in rule.items() if k not in ("use", "options")}, **rule.get("options", {})}


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def code_digest(rules: Rules) -> str:
    """The SHA-256 of the source that decides scores: all of judges/, the engine's part, this file, judges of others."""
    top = Path(judges.__file__).parent
    engine = [Path(cascade.__file__).parent / name for name in _DECIDING]
    others = {_source_of(judges.make(rule["use"], **_options(rule))) for rule in rules}
    digest = hashlib.sha256()
    for path in (*sorted(top.rglob("*.py")), *engine, Path(__file__), *sorted(filter(None, others))):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _source_of(judge: Any) -> Path | None:
    """Where a judge, or the function that it calls, is written; None where that is no file."""
    with suppress(TypeError, OSError):
        return Path(inspect.getfile(getattr(judge, "function", type(judge))))
    return None


class Cache:
    """Columns on disk, each in a file named by the hash of all that it depends on: next to the recording in ``.cascade``.

    The code is among that: a judge that says something else after a change is asked again.

    Where that folder cannot be written, the user's cache folder serves. A file that cannot be read is computed again.
    """

    def __init__(self, recording: str | os.PathLike[str], sha256: str) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.sha256 = sha256
        self.folders = (Path(recording).resolve().parent / ".cascade", home / "cascade-gate")

    def name(self, model: str, rules: Rules, ids: Sequence[str]) -> str:
        """The file of one column: a hash of the recording, the rows, the model, the judges, their code and this format."""
        rows = hashlib.sha256("\0".join(ids).encode()).hexdigest()
        identity = json.dumps([FORMAT, code_digest(rules), self.sha256, rows, model, rules], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:32] + ".npz"

    def load(self, name: str, model: str, rules: Rules) -> TierScores | None:
        """The column, or None where it is not there or damaged."""
        for folder in self.folders:
            with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), open(folder / name, "rb") as file:
                data = np.load(file, allow_pickle=False)
                names = tuple(str(x) for x in data["names"])
                return TierScores(model=model, rules=tuple(rules), names=names, **{array: data[array] for array in ARRAYS})
        return None

    def save(self, name: str, load_or_score: TierScores) -> None:
        """Writes the column whole or not at all; where no folder can be written nothing is cached, which is no error."""
        arrays = {array: getattr(load_or_score, array) for array in ARRAYS}
        for folder in self.folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            except OSError:
                continue
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, names=np.array(load_or_score.names, dtype=np.str_), **arrays)
                os.replace(temporary, folder / name)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary)
                continue
            return

    def remove(self, names: Sequence[str]) -> None:
        """Removes files, where they are there."""
        for path in (folder / name for folder in self.folders for name in names):
            with suppress(OSError):
                path.unlink()


async def load_or_score(
    examples: Sequence[Example],
    model: str,
    rules: Rules,
    cache: Cache | None = None,
    on_row: Callable[[], None] = lambda: None,
) -> TierScores:
    """``score_tier``, from the cache where it holds the column."""
    name = cache.name(model, rules, [e.id for e in examples]) if cache else ""
    scores_of_tier = cache.load(name, model, rules) if cache else None
    if scores_of_tier is None or len(scores_of_tier.vetoed) != len(examples):
        scores_of_tier = await score_tier(examples, model, rules, on_row)
        if cache:
            cache.save(name, scores_of_tier)
    return scores_of_tier
