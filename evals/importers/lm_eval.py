"""Logs of lm-evaluation-harness: ``samples_TASK_DATE.jsonl``, written with ``--log_samples``.

A line is an example (for each filter, of which one is taken); ``target`` is its reference. The model's name is in the file
``results_DATE.json`` next to it. The harness records neither tokens nor times nor prices.
"""

import ast
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evals.recording import Example, RecordingError
from judges import Answer

from .base import ImportedAnswer, Options, Skipped, split_messages, unit_score
from .fields import MOST, NUMBER, Field, document
from .records import lines, read_each

READS = "read are samples_*.jsonl of lm-evaluation-harness 0.4; run lm-eval with --log_samples"
_NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl(?:\.gz)?")
# The measures of one answer that are right or wrong; others (perplexity, BLEU over a corpus) are not its quality.
_METRICS = ("exact_match", "acc", "pass@1", "em", "acc_norm", "f1")


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every line of a log. Raises RecordingError, OSError."""
    name = _NAME.fullmatch(Path(path).name)
    task, model = (
        (name[1], _model(path, name[2])) if name else (Path(path).name.split(".")[0], Path(path).resolve().parent.name)
    )
    chosen = options.filter
    others: dict[str, int] = {}
    has_match = False

    def convert(line: Field) -> Iterator[ImportedAnswer | Skipped]:
        nonlocal chosen, has_match
        filter = line.value_of("filter", str)
        if filter is not None:
            chosen = chosen or filter
            if filter != chosen:
                others[filter] = others.get(filter, 0) + 1
                return
        has_match = True
        yield from of_line(line, task, model, options)

    yield from read_each(lines(path, READS), convert, options.max_bad)
    if not has_match and others:
        raise RecordingError(f"{path}: has no filter {options.filter!r}, but: {', '.join(others)}")
    for filter, count in others.items():
        yield Skipped(path, f"grades by the filter {filter!r}, not {chosen!r}, of the same answers (--filter)", count)


def _model(path: str, date: str) -> str:
    """The model's name in the results next to the samples, else the folder's, which the harness derives from it."""
    results = Path(path).with_name(f"results_{date}.json")
    if results.is_file():
        config = document(results, READS)
        if name := config.value_of("model_name", str):
            return str(name)
    return Path(path).resolve().parent.name


def of_line(line: Field, task: str, model: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """One line's answer, and the repeats after it."""
    where = f"{line.where}: doc_id {line.need('doc_id', int).value}"
    requests = list(_requests(line))
    replies = [list(r.items()) for r in _lists(line.need("resps", list))]
    if len(requests) != len(replies):
        raise line.need("resps", list).wrong(f"{len(replies)} replies to {len(requests)} requests")
    kinds = {type(more) for _, more in requests}
    if kinds == {dict} and len(requests) == 1:
        yield from _generated(line, where, task, model, replies=replies[0], prompt=requests[0][0], options=options)
    elif kinds == {dict}:
        yield Skipped(where, "several prompts were asked for one example")
    elif kinds != {str} or len(requests) == 1:
        yield Skipped(where, "the likelihood of a given text was measured; nothing was answered")
    elif len({prompt for prompt, _ in requests}) > 1:
        yield Skipped(where, "the choices were weighed behind different texts, so that there is no one prompt")
    else:
        yield _chosen(
            line, where, task, model, choices=[str(more) for _, more in requests], replies=replies, options=options
        )


def _requests(line: Field) -> Iterator[tuple[str, Any]]:
    """Prompt, and what came with it: options of a generation, or the text whose likelihood is asked for."""
    arguments = line.need("arguments", dict, list)
    if isinstance(arguments.value, dict):  # since 0.4.3
        for name in arguments.value:
            request = arguments.need(name, dict)
            yield _text(request.need("arg_0", str, list)), request.value.get("arg_1")
        return
    for pair in _lists(arguments):
        first, *rest = pair.items()
        yield _text(first), rest[0].value if rest else None


def _lists(arguments: Field) -> Iterator[Field]:
    for one in arguments.items():
        if not isinstance(one.value, list) or not one.value:
            raise one.wrong("must be a list with something in it")
        yield one


def _text(argument: Field) -> str:
    value = argument.value
    # Chat messages come as JSON, in a tuple of one.
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise argument.wrong("must be text")
    return value


def _example(line: Field, task: str, prompt: str, reference: Any, choices: Sequence[str] | None = None) -> Example:
    system = None
    content: Any = prompt
    if prompt.startswith("[{"):
        with suppress(ValueError, RecursionError):
            messages = json.loads(prompt)
            if all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages):
                content, system = split_messages(messages)
    id = f"{task}-{line.need('doc_id', int).value}"
    return Example(
        id, content, {}, task=task, system=system, reference=reference, raw={} if choices is None else {"choices": choices}
    )


def _generated(
    line: Field, where: str, task: str, model: str, replies: Sequence[Field], prompt: str, options: Options
) -> Iterator[ImportedAnswer | Skipped]:
    texts = [r.value for r in replies]
    if not all(isinstance(t, str | None) for t in texts):
        raise replies[0].wrong("must be text")
    metric, quality, notes = _quality(line, options)
    filtered = line.need("filtered_resps", list).value
    # Over several replies a filter may have voted, and its grade is then not the first reply's.
    if len(texts) > 1 and not (filtered and isinstance(filtered[0], str) and filtered[0].strip() in (texts[0] or "")):
        quality, notes = None, (f"no quality: {metric!r} grades several replies together",)
    example = _example(line, task, prompt, _target(line.need("target", str, *NUMBER, list).value))
    for i, text in enumerate(texts):
        if text is None:
            yield Skipped(where, "no text")
        else:
            yield ImportedAnswer(example, model, Answer(text, model=model), None if i else quality, notes=() if i else notes)


def _chosen(
    line: Field,
    where: str,
    task: str,
    model: str,
    choices: Sequence[str],
    replies: Sequence[Sequence[Field]],
    options: Options,
) -> ImportedAnswer | Skipped:
    metric, quality, notes = _quality(line, options)
    likelihoods = [_likelihood(r[0]) for r in replies]
    # -inf is a choice that the model rules out; where there is no number, or only -inf, no choice is the likeliest.
    if any(not value < math.inf for value in likelihoods) or max(likelihoods) == -math.inf:
        return Skipped(where, "the likelihoods of its choices are not numbers, so that none was chosen")
    lengths = [max(len(c.strip()), 1) for c in choices] if metric == "acc_norm" else [1] * len(choices)
    weighed = [value / length for value, length in zip(likelihoods, lengths, strict=True)]
    best = weighed.index(max(weighed))
    texts = [c.strip() for c in choices]
    shares = [math.exp(w - weighed[best]) for w in weighed]
    target = _target(line.need("target", str, *NUMBER, list).value)
    if target not in texts and str(target).isdecimal() and int(target) < len(texts):
        target = texts[int(target)]
    prompt = next(iter(_requests(line)))[0]
    return ImportedAnswer(
        _example(line, task, prompt, target, choices=texts),
        model,
        Answer(texts[best], finish_reason="stop", mean_logprob=-math.log(sum(shares)), model=model),
        quality,
        more={"choice_logprobs": [value if value > -math.inf else None for value in likelihoods]},
        notes=notes,
    )


def _likelihood(reply: Field) -> float:
    """The log-likelihood, the first of the pair with whether the text was the likeliest; texts since 0.4.3.

    NaN where it is unknown, as ``fields`` reads what JSON has not.
    """
    value = reply.value[0] if isinstance(reply.value, list) and reply.value else reply.value
    if value is None:
        return math.nan
    with suppress(TypeError, ValueError, OverflowError):
        if abs(number := float(value)) <= MOST or not math.isfinite(number):
            return number
    raise reply.wrong("must be a log-likelihood, a number; take the line out")


def _target(value: Any) -> Any:
    """The reference; several right ones were a list before the harness made a text of it."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            several = ast.literal_eval(value)
            if isinstance(several, list) and several and all(isinstance(v, str) for v in several):
                return several
    return value


def _quality(line: Field, options: Options) -> tuple[str, float | None, tuple[str, ...]]:
    """Metric and its value: the one asked for, else the first that grades a single answer."""
    listed = line.value_of("metrics", list)
    names = [str(n) for n in listed] if listed is not None else [m for m in _METRICS if m in line.value]
    if options.score is not None and options.score not in line.value:
        return (
            options.score,
            None,
            (f"no quality: no metric is called {options.score!r}, but: {', '.join(names) or 'none'}",),
        )
    metric = options.score or next((m for m in _METRICS if m in names), names[0] if names else "")
    quality = unit_score(line.value.get(metric))
    if quality is None:
        return metric, None, (f"no quality: the metric {metric!r} is not a figure in [0, 1]" if metric else "not graded",)
    return metric, quality, ()
