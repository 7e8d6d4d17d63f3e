"""Graders by name: ``number``, ``number:tolerance=0.01``, ``json:credit=fields``, ``python:package.module:function``."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.util.suggestions import unknown
from evals.common.judge_spec import option_value

from . import choices
from . import text as words
from .code import CodeGrader
from .function import FunctionGrader
from .math import MathsGrader
from .numbers_dates import DateGrader, NumberGrader
from .protocol import Grader, GraderError
from .structured import JsonGrader, SchemaGrader

if TYPE_CHECKING:
    from cascade.engine.model_handle import ModelHandle

    from .model import Memory

_RULES: Mapping[str, Callable[[Any, str], bool]] = {
    "exact": words.exact,
    "text": words.equal,
    "choice": choices.choice,
    "contains": words.contains,
    "regex": words.matches,
}
_GRADERS: Mapping[str, Callable[..., Grader]] = {
    "number": NumberGrader,
    "date": DateGrader,
    "json": JsonGrader,
    "schema": SchemaGrader,
    "code": CodeGrader,
    "maths": MathsGrader,
}


_MODELS = ("use", "against")


def names() -> list[str]:
    """The names of all graders, sorted."""
    return sorted({*_RULES, *_GRADERS, "model", "python"})


def grader(
    spec: str,
    *,
    policy_file: str | None = None,
    memory: "Memory | None" = None,
    models: "Callable[[str], ModelHandle] | None" = None,
) -> Grader:
    """The grader of a specification ``name:option=value:...``.

    ``policy_file`` names the models that a ``model:use=NAME`` grader may ask, ``memory`` keeps what they said;
    ``models`` gives them in place of a policy file.
    Raises GraderError for an unknown name, with the nearest, or a wrong option.
    """
    name, _, rest = spec.partition(":")
    if name == "python":
        return FunctionGrader.named(rest)
    options = _options(spec, rest)
    if name in _RULES:
        if options:
            raise GraderError(f"{spec}: the grader {name} takes no options")
        return words.WordsGrader(name, _RULES[name])
    if name == "model":
        return _model(spec, options, memory, models or partial(_of_file, policy_file))
    if name not in _GRADERS:
        raise GraderError(unknown("grader", name, names()))
    try:
        return _GRADERS[name](**options)
    except TypeError as error:
        raise GraderError(f"{spec}: {error}") from None


def _options(spec: str, rest: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    key = ""
    for option in filter(None, rest.split(":")):
        name, sign, value = option.partition("=")
        if not sign and key in _MODELS:  # model names may contain a colon
            options[key] += f":{option}"
            continue
        key = name
        if not sign or key in ("name", "version", "needs_reference", "waits"):
            raise GraderError(f"{spec}: write options as grader:option=value, for example number:tolerance=0.01")
        options[key] = value if key in _MODELS else option_value(value)
    return options


def _of_file(policy_file: str | None, name: str) -> "ModelHandle":
    from .model import make_handle

    return make_handle(name, policy_file)


def _model(spec: str, options: dict[str, Any], memory: "Memory | None", models: "Callable[[str], ModelHandle]") -> Grader:
    from .model import Memory, ModelGrader

    use = options.pop("use", None)
    if not isinstance(use, str):
        raise GraderError(f"{spec}: write model:use=NAME, a model of the policy file")
    try:
        return ModelGrader(models(use), memory or Memory(), **options)
    except TypeError as error:
        raise GraderError(f"{spec}: {error}") from None
