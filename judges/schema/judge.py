"""JSON Schema or a pydantic model: a veto, not a score. Validity hardly ranks answers; invalidity is nearly always wrong."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from judges.protocol import JudgeInput
from judges.reading import JsonMatch, find_json
from judges.reading.finish_reason import is_complete
from judges.types import Answer, Verdict

from .cache import ByteBoundedCache
from .complexity import MAX_WORK, branches, validation_cost
from .keywords import InvalidSchemaError, PatternTimeout, ValidationTimeout, bounded, dialect, pattern, start_clock
from .offload import Offload, is_small, offload
from .quick_check import quick_check

_CACHE_SIZE = 128
_CACHE_BYTES = 2**20  # of schemas as JSON text; compiled they take about twenty times as much
_ERRORS = 3

# A check gives the parsed value and the reasons why it is not valid.
Check = Callable[[Any], tuple[Any, list[str]]]
# The schema is kept with its check: while it is here, no other object can have its id.
_checks_by_id: ByteBoundedCache[tuple[Any, Check]] = ByteBoundedCache(_CACHE_SIZE, _CACHE_BYTES)
_checks_by_text: ByteBoundedCache[Check] = ByteBoundedCache(_CACHE_SIZE, _CACHE_BYTES)


def json_schema_of(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a mapping (itself) or of a pydantic model class. Raises InvalidSchemaError for anything else."""
    if isinstance(schema, Mapping):
        return dict(schema)
    if not hasattr(schema, "model_json_schema"):
        raise InvalidSchemaError(f"a schema is a mapping or a pydantic model class, got {type(schema).__name__}")
    json_schema: dict[str, Any] = schema.model_json_schema()
    return json_schema


@dataclass(frozen=True)
class SchemaJudge:
    """Vetoes an answer that is not valid against the prompt's schema and fills ``answer.parsed`` where it is.

    Of several JSON values the last valid one counts; JSON in a fence or in prose takes the place of the text.
    ``schema`` (a JSON Schema, 2020-12 unless its ``$schema`` says otherwise, or a pydantic model class) goes before the
    prompt's own. ``repair`` reads nearly-JSON, too (see ``judges.reading.find_json``), and says so in ``details``. Answers
    over ``max_chars`` characters or nested too deeply are vetoed. An answer of tool calls alone is not judged. Nothing is
    ever fetched, formats are not checked, patterns have 50 ms of CPU time together and a validation 2 s. A schema must not
    be changed once it was used. ``judge`` raises InvalidSchemaError.
    """

    schema: Any = None
    max_chars: int = 1_000_000
    repair: bool = False
    name: str = "schema"
    only_vetoes: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.max_chars, int) or isinstance(self.max_chars, bool) or self.max_chars < 1:
            raise ValueError(f"max_chars must be a whole number from 1 on, got {self.max_chars!r}")
        if not isinstance(self.repair, bool):
            raise ValueError(f"repair must be true or false, got {self.repair!r}")

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
        """Checks the JSON in the answer's text; where the text holds more, the verdict's answer is the JSON alone.

        Where ``offload`` is set and the work may be large, it is done there.
        """
        send = offload.get()
        if send is not None:
            schema, answer = self.schema if self.schema is not None else case.prompt.schema, case.answer
            size = len(answer.text)
            if isinstance(schema, Mapping) and 0 < size <= self.max_chars and not is_small(schema, answer.text):
                return self._judge_elsewhere(send, schema, answer)
        return self.validate(case)

    def validate(self, case: JudgeInput) -> Verdict:
        """As ``judge``, always in the calling thread."""
        schema = self.schema if self.schema is not None else case.prompt.schema
        answer = case.answer
        if schema is None or (answer.tool_calls and not answer.text.strip()):
            return Verdict(self.name)
        if len(answer.text) > self.max_chars:
            return self._veto(f"longer than {self.max_chars} characters")
        try:
            match, value, errors = find_valid_json(answer.text, schema, repair=self._repairs(answer))
        except RecursionError:
            return self._veto("too deeply nested")
        except ValidationTimeout:
            return self._veto("the validation took too long")
        except PatternTimeout:
            return self._veto("a pattern took too long")
        except OverflowError:
            return self._veto("a number is too large")
        except InvalidSchemaError:
            raise
        except ValueError as error:
            return self._veto(str(error)[:200])
        if errors:
            return Verdict(self.name, veto=True, reason="; ".join(errors))
        if match.whole:
            return Verdict(self.name, answer=answer.with_parsed(value))
        details = {"repaired": True} if match.repaired else {}
        return Verdict(self.name, answer=replace(answer, text=match.text, parsed=value), details=details)

    async def _judge_elsewhere(self, send: Offload, schema: Mapping[str, Any], answer: Answer) -> Verdict:
        if answer.tool_calls and not answer.text.strip():
            return Verdict(self.name)
        outcome = await send(schema, answer.text, {"max_chars": self.max_chars, "repair": self._repairs(answer)})
        if outcome.veto is not None:
            return Verdict(self.name, veto=True, reason=outcome.veto)
        text = answer.text if outcome.text is None else outcome.text
        return Verdict(self.name, answer=replace(answer, text=text, parsed=outcome.value), details=outcome.details)

    def _repairs(self, answer: Answer) -> bool:
        """Whether its JSON may be repaired: what was cut is not an answer, however it is closed."""
        return self.repair and is_complete(answer.finish_reason)

    def _veto(self, reason: str) -> Verdict:
        return Verdict(self.name, veto=True, reason=f"$: {reason}")


def find_valid_json(text: str, schema: Any, *, repair: bool = False) -> tuple[JsonMatch, Any, list[str]]:
    """The last JSON value in a reply that is valid against ``schema``; where none is, the last value.

    Args:
        text: The reply, without reasoning.
        schema: A JSON Schema or a pydantic model class.
        repair: See ``judges.reading.find_json``.

    Returns:
        The value's position, the value as the schema makes it (an instance of the model), and why it is not valid.

    Raises:
        InvalidSchemaError: The schema itself is wrong.
        ValueError: There is no JSON in the reply.
        RecursionError, PatternTimeout, ValidationTimeout, OverflowError: It cannot be checked.
    """
    check = checker(schema)
    results: list[tuple[Any, Any, list[str]]] = []

    def accepts(value: Any) -> bool:
        results.append((value, *check(value)))
        return not results[-1][2]

    match = find_json(text, accepts, repair=repair)
    for value, result, errors in results:
        if value is match.value:
            return match, result, errors
    return (match, *check(match.value))


def checker(schema: Any) -> Check:
    """The check of a schema, made once per schema object and once per equal JSON. Raises InvalidSchemaError."""
    entry = _checks_by_id.get(id(schema))
    if entry is not None:
        return entry[1]
    size = 1000  # a pydantic model is kept by the caller anyway
    if isinstance(schema, Mapping):
        try:
            text = json.dumps(schema, default=dict)
            size, check = len(text), _json_schema_check(text)
        except (TypeError, RecursionError, ValueError) as error:
            if isinstance(error, InvalidSchemaError):
                raise
            raise InvalidSchemaError(f"not a JSON Schema: {str(error)[:200]}") from None
    else:
        check = _pydantic_check(schema)
    _checks_by_id.put(id(schema), (schema, check), size)
    return check


def _pydantic_check(model: Any) -> Check:
    from pydantic import BaseModel, PydanticUserError, ValidationError

    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise InvalidSchemaError(f"a schema is a mapping or a pydantic model class, got {type(model).__name__}")

    try:
        alternatives = branches(model.model_json_schema())
    except PydanticUserError:  # not every type has a JSON Schema
        alternatives = 1

    def check(value: Any) -> tuple[Any, list[str]]:
        if alternatives > 1 and validation_cost(value, alternatives) > MAX_WORK:
            return value, ["$: nested too deeply for a model whose unions have no discriminator"]
        try:
            # As JSON, not as Python objects: a strict model takes a date or an enum from a JSON string only so.
            return model.model_validate_json(json.dumps(value)), []
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            return value, [f"{_path(e['loc'])}: {_short(e['msg'])}" for e in details[:_ERRORS]]

    return check


def _json_schema_check(text: str) -> Check:
    check = _checks_by_text.get(text)
    if check is None:
        check = _compile(text)
        _checks_by_text.put(text, check, len(text))
    return check


def _compile(text: str) -> Check:
    from itertools import islice

    from jsonschema import Draft3Validator, Draft4Validator, Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = json.loads(text)
    base = dialect(schema, Draft202012Validator)
    patterns = FormatChecker(formats=())
    patterns.checks("regex", raises=InvalidSchemaError)(lambda p: not isinstance(p, str) or pattern(p) is not None)
    try:
        base.check_schema(schema, format_checker=patterns)
    except SchemaError as error:
        raise InvalidSchemaError(
            f"not a JSON Schema: {_path(error.absolute_path)}: {_short(str(error.cause or error.message))}"
        ) from None
    # A registry of its own that retrieves nothing: jsonschema's default one would fetch a remote $ref.
    validator = bounded(base)(schema, registry=Registry())
    quick = None if base in (Draft3Validator, Draft4Validator) else quick_check(schema, base.VALIDATORS.keys())

    def check(value: Any) -> tuple[Any, list[str]]:
        if quick is not None and quick(value):
            return value, []
        start_clock()
        try:
            errors = list(islice(validator.iter_errors(value), _ERRORS))
        except Unresolvable as error:
            raise InvalidSchemaError(f"$ref cannot be resolved and is never fetched: {str(error)[:200]}") from None
        return value, [f"{_path(e.absolute_path)}: {_short(e.message)}" for e in errors]

    return check


def _path(parts: Any) -> str:
    return _short("$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts))


def _short(message: str) -> str:
    return message if len(message) <= 160 else f"{message[:70]} … {message[-80:]}"
