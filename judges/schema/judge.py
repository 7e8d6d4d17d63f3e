"""JSON Schema or a pydantic model: a veto, not a score. Validity hardly ranks answers; invalidity is nearly always wrong."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, NoReturn

from judges.protocol import JudgeInput
from judges.types import Answer, Verdict

from .cache import ByteBoundedCache
from .complexity import MAX_WORK, branches, validation_cost
from .keywords import InvalidSchemaError, PatternTimeout, ValidationTimeout, bounded, dialect, pattern, start_clock
from .offload import Offload, is_small, offload

_CACHE_SIZE = 128
_CACHE_BYTES = 2**20  # of schemas as JSON text; compiled they take about twenty times as much
_ERRORS = 3
_ATTEMPTS = 256  # decodings tried in prose: each failure counts the text's lines, so that endless ones would be quadratic
_FENCE = re.compile(r"```[A-Za-z0-9_-]{0,20}[ \t]{0,8}\r?\n?")
_OPENING = re.compile(r"\{\s*[\"}]|\[\s*(?:[\[{\"\]\-\d]|true|false|null)")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


# A check gives the parsed value and the reasons why it is not valid.
Check = Callable[[Any], tuple[Any, list[str]]]
# The schema is kept beside its check: as long as it is here, its id cannot be another object's.
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


def extract_json(text: str) -> Any:
    """The JSON value that ``text`` is, or the first in a fenced block, or the first object or array in prose.

    NaN, Infinity and numbers beyond a float are not JSON. What begins as an object or array and breaks is left out whole: a
    value inside it is not the answer. Raises ValueError where there is none, RecursionError where it is nested too deeply.
    """
    stripped = text.strip("\ufeff \t\r\n")
    try:
        return _decoder.decode(stripped)
    except ValueError as error:
        reason = str(error)[:120]
    pieces = _FENCE.split(stripped)
    for block in pieces[1:-1:2][:_ATTEMPTS]:
        try:
            return _decoder.decode(block.strip())
        except ValueError:
            continue
    position = 0
    for _ in range(_ATTEMPTS):
        opening = _OPENING.search(stripped, position)
        if opening is None:
            break
        try:
            return _decoder.raw_decode(stripped, opening.start())[0]
        except ValueError as error:
            reason = str(error)[:120]
        position = _end_of_brackets(stripped, opening.start())
    raise ValueError(f"no JSON found: {reason}")


def _end_of_brackets(text: str, start: int) -> int:
    depth = 0
    for token in _STRUCTURE.finditer(text, start):
        first = token[0][0]
        depth += 1 if first in "[{" else -1 if first in "]}" else 0
        if depth == 0:
            return token.end()
    return len(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


@dataclass(frozen=True)
class SchemaJudge:
    """Vetoes an answer that is not valid against the prompt's schema and fills ``answer.parsed`` where it is.

    ``schema`` (a JSON Schema, 2020-12 unless its ``$schema`` says otherwise, or a pydantic model class) goes before the
    prompt's own. Answers over ``max_chars`` characters or nested too deeply are vetoed. An answer of tool calls alone is not
    judged. Nothing is ever fetched, formats are not checked, patterns have 50 ms together and a validation 2 s. A schema
    must not be changed once it was used. ``judge`` raises InvalidSchemaError.
    """

    schema: Any = None
    max_chars: int = 1_000_000
    name: str = "schema"
    only_vetoes: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.max_chars, int) or isinstance(self.max_chars, bool) or self.max_chars < 1:
            raise ValueError(f"max_chars must be a whole number from 1 on, got {self.max_chars!r}")

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
        """Reads JSON out of the text and checks it; elsewhere where ``offload`` is set and the work may be large."""
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
        check = checker(schema)
        try:
            value, errors = check(extract_json(answer.text))
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
        return Verdict(self.name, answer=answer.with_parsed(value))

    async def _judge_elsewhere(self, send: Offload, schema: Mapping[str, Any], answer: Answer) -> Verdict:
        if answer.tool_calls and not answer.text.strip():
            return Verdict(self.name)
        outcome = await send(schema, answer.text, self.max_chars)
        if outcome.veto is not None:
            return Verdict(self.name, veto=True, reason=outcome.veto)
        return Verdict(self.name, answer=answer.with_parsed(outcome.value))

    def _veto(self, reason: str) -> Verdict:
        return Verdict(self.name, veto=True, reason=f"$: {reason}")


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

    from jsonschema import Draft202012Validator, FormatChecker
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

    def check(value: Any) -> tuple[Any, list[str]]:
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
