"""JSON Schema or a pydantic model: a veto, not a score. Validity hardly ranks answers; invalidity is nearly always wrong."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from .answer import Verdict
from .extract import extract_json
from .judge import Case

PATTERN_SECONDS = 0.1  # for all patterns of one validation together
_CACHE_SIZE = 128
_ERRORS = 3


class InvalidSchemaError(ValueError):
    """The caller's schema itself is wrong: not a schema, a bad pattern, or a ``$ref`` that leads nowhere."""


class _PatternTimeout(Exception):
    """The schema's patterns used up their time on this answer."""


# A check gives the parsed value and the reasons why it is not valid.
Check = Callable[[Any], tuple[Any, list[str]]]
_checks: OrderedDict[int, tuple[Any, Check]] = OrderedDict()


def json_schema_of(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a mapping (itself) or of a pydantic model class, as providers want it."""
    if isinstance(schema, Mapping):
        return dict(schema)
    made: dict[str, Any] = schema.model_json_schema()
    return made


@dataclass(frozen=True)
class SchemaJudge:
    """Vetoes an answer that is not valid against the prompt's schema and fills ``answer.parsed`` where it is.

    ``schema`` stands in where the prompt has none. Answers over ``max_chars`` characters or nested too deeply are vetoed.
    An answer of tool calls alone is not judged. Raises InvalidSchemaError.
    """

    schema: Any = None
    max_chars: int = 1_000_000
    name: str = "schema"
    only_vetoes: bool = True

    def judge(self, case: Case) -> Verdict:
        """Reads JSON out of the text and checks it."""
        schema = case.prompt.schema if case.prompt.schema is not None else self.schema
        answer = case.answer
        if schema is None or (answer.tool_calls and not answer.text.strip()):
            return Verdict(self.name)
        if len(answer.text) > self.max_chars:
            return Verdict(self.name, veto=True, reason=f"$: longer than {self.max_chars} characters")
        try:
            value, errors = checker(schema)(extract_json(answer.text))
        except RecursionError:
            return Verdict(self.name, veto=True, reason="$: nested too deeply")
        except _PatternTimeout:
            return Verdict(self.name, veto=True, reason="$: a pattern of the schema took too long")
        except InvalidSchemaError:
            raise
        except ValueError as error:
            return Verdict(self.name, veto=True, reason=f"$: {str(error)[:200]}")
        if errors:
            return Verdict(self.name, veto=True, reason="; ".join(errors))
        return Verdict(self.name, answer=replace(answer, parsed=value))


def checker(schema: Any) -> Check:
    """The compiled check of a schema, made once per schema object."""
    cached = _checks.get(id(schema))
    if cached is not None and cached[0] is schema:
        return cached[1]
    check = _json_schema_check(schema) if isinstance(schema, Mapping) else _pydantic_check(schema)
    # The schema is kept beside its check: as long as it stands here its id cannot be another object's.
    _checks[id(schema)] = (schema, check)
    while len(_checks) > _CACHE_SIZE:
        _checks.popitem(last=False)
    return check


def _pydantic_check(model: Any) -> Check:
    from pydantic import BaseModel, ValidationError

    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise InvalidSchemaError(f"a schema is a mapping or a pydantic model class, got {type(model).__name__}")

    def check(value: Any) -> tuple[Any, list[str]]:
        try:
            return model.model_validate(value), []
        except ValidationError as error:
            return value, [f"{_path(e['loc'])}: {e['msg'][:160]}" for e in error.errors()[:_ERRORS]]

    return check


def _json_schema_check(schema: Mapping[str, Any]) -> Check:
    from itertools import islice

    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    base = validators.validator_for(schema, default=Draft202012Validator)
    clock = _Clock()
    try:
        base.check_schema(dict(schema))
    except (SchemaError, RecursionError) as error:
        where = _path(getattr(error, "absolute_path", ()))
        raise InvalidSchemaError(f"not a JSON Schema: {where}: {str(error).splitlines()[0][:200]}") from None
    # A registry of its own that retrieves nothing: jsonschema's default one would fetch a remote $ref.
    extended: Any = validators.extend(base, _bounded(clock))  # type: ignore[no-untyped-call]
    validator = extended(schema, registry=Registry())

    def check(value: Any) -> tuple[Any, list[str]]:
        clock.start()
        try:
            found = list(islice(validator.iter_errors(value), _ERRORS))
        except Unresolvable as error:
            raise InvalidSchemaError(f"$ref cannot be resolved and is never fetched: {str(error)[:200]}") from None
        return value, [f"{_path(e.absolute_path)}: {_short(e.message)}" for e in found]

    return check


class _Clock:
    """Time left for the patterns of one validation."""

    def start(self) -> None:
        self.ends = monotonic() + PATTERN_SECONDS

    def search(self, pattern: str, text: str) -> bool:
        from .rules import compiled

        left = self.ends - monotonic()
        try:
            matcher = compiled(pattern)
        except ValueError as error:
            raise InvalidSchemaError(str(error)) from None
        try:
            if left <= 0:
                raise TimeoutError
            return matcher.search(text, timeout=left) is not None
        except TimeoutError:
            raise _PatternTimeout from None


def _bounded(clock: _Clock) -> dict[str, Any]:
    """The keywords that match patterns, made stoppable: ``re`` can hang on a caller's pattern for ever."""
    from jsonschema.exceptions import ValidationError

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if validator.is_type(instance, "string") and not clock.search(wanted, instance):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    def pattern_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if validator.is_type(instance, "object"):
            for each, subschema in wanted.items():
                for k, v in instance.items():
                    if clock.search(each, k):
                        yield from validator.descend(v, subschema, path=k, schema_path=each)

    def additional(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if not validator.is_type(instance, "object"):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for k in instance:
            if k in known or any(clock.search(each, k) for each in patterns):
                continue
            if validator.is_type(wanted, "object"):
                yield from validator.descend(instance[k], wanted, path=k)
            elif wanted is False:
                yield ValidationError(f"the key {k!r} is not allowed")

    def unevaluated(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        # jsonschema's own rule calls re.search for patternProperties; the keyword is refused rather than left to hang.
        if _has_patterns(schema):
            raise InvalidSchemaError("unevaluatedProperties beside patternProperties is not supported")
        yield from original(validator, wanted, instance, schema)

    from jsonschema import Draft202012Validator

    original = Draft202012Validator.VALIDATORS["unevaluatedProperties"]
    return {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional,
        "unevaluatedProperties": unevaluated,
    }


def _has_patterns(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "patternProperties" in schema or any(_has_patterns(v) for v in schema.values())
    return isinstance(schema, list) and any(_has_patterns(v) for v in schema)


def _path(parts: Any) -> str:
    return "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)


def _short(message: str) -> str:
    return message if len(message) <= 160 else f"{message[:70]} … {message[-80:]}"
