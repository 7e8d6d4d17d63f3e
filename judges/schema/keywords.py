"""Keywords of JSON Schema whose work jsonschema does not bound, rewritten so that no answer can hang a run.

Patterns are matched by ``regex`` under a common time limit (``re`` cannot be stopped), ``uniqueItems`` hashes instead of
comparing every pair, and every keyword looks at the clock. Clocks count this thread's CPU time, so that a busy machine does
not change a verdict. The rest is jsonschema's own.
"""

import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from time import thread_time
from typing import Any

from judges.patterns import compiled, is_found

PATTERN_SECONDS = 0.05  # for all patterns of one validation together
SECONDS = 2.0  # for one validation: alternatives of a schema that refers to itself double with each level of an answer


class InvalidSchemaError(ValueError):
    """The caller's schema itself is wrong: not a schema, a bad pattern, or a ``$ref`` that leads nowhere."""


class PatternTimeout(Exception):
    """The schema's patterns used up their time on this answer."""


class ValidationTimeout(Exception):
    """The validation of this answer took too long."""


_time = threading.local()  # of this thread's validation: .pattern_seconds left for its patterns, .ends for all of it


def start_clock() -> None:
    """Begins a validation: it has SECONDS from now on, its patterns PATTERN_SECONDS of them."""
    _time.pattern_seconds, _time.ends = PATTERN_SECONDS, thread_time() + SECONDS


def pattern(source: str) -> Any:
    """``source`` compiled by ``regex``, kept. Raises InvalidSchemaError."""
    try:
        return compiled(source)
    except ValueError as error:
        raise InvalidSchemaError(str(error)) from None


def _matches(source: str, text: str) -> bool:
    pattern(source)  # its error is the schema's
    began = thread_time()
    try:
        if _time.pattern_seconds <= 0:
            raise TimeoutError
        return is_found(source, text, _time.pattern_seconds)
    except TimeoutError:
        raise PatternTimeout from None
    finally:
        _time.pattern_seconds -= thread_time() - began


Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _timed(keyword: Keyword) -> Keyword:
    def check(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
        if thread_time() > _time.ends:
            raise ValidationTimeout
        return keyword(validator, rule, instance, schema)

    return check


def dialect(schema: Any, default: Any) -> Any:
    """The jsonschema validator class that the schema's ``$schema`` names, or ``default``."""
    from jsonschema import validators

    names_dialect = isinstance(schema, dict) and isinstance(schema.get("$schema"), str)
    return validators.validator_for(schema, default=default) if names_dialect else default


@lru_cache(maxsize=16)
def bounded(base: Any) -> Any:
    """The jsonschema validator class ``base`` on the clock, with its unbounded keywords replaced, in its subschemas, too."""
    from jsonschema import validators

    # Only keywords that the dialect has: draft 7 ignores unevaluatedProperties.
    keywords = {k: _timed(_KEYWORDS.get(k, v)) for k, v in base.VALIDATORS.items()}
    validator_class: Any = validators.extend(base, keywords)  # type: ignore[no-untyped-call]
    stock = validator_class.evolve

    def evolve(self: Any, **changes: Any) -> Any:
        # A subschema with its own $schema would otherwise be checked by the stock class and its unbounded keywords.
        schema = changes.setdefault("schema", self.schema)
        if not (isinstance(schema, dict) and "$schema" in schema):
            return stock(self, **changes)
        return bounded(dialect(schema, base))(**{"registry": self._registry, "_resolver": self._resolver} | changes)

    validator_class.evolve = evolve
    return validator_class


def _match(validator: Any, rule: str, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _matches(rule, instance):
        yield _error(f"{instance!r} does not match {rule!r}")


def _pattern_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for each, subschema in rule.items():
            for k, v in instance.items():
                if _matches(each, k):
                    yield from validator.descend(v, subschema, path=k, schema_path=each)


def _additional(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        keywords, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for k in instance:
            if k not in keywords and not any(_matches(each, k) for each in patterns):
                yield from _rest(validator, rule, instance, k)


def _unevaluated(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        rest = {k: v for k, v in schema.items() if k != "unevaluatedProperties"}
        evaluated = _evaluated(validator, instance, rest)
        for k in instance:
            if k not in evaluated:
                yield from _rest(validator, rule, instance, k)


def _rest(validator: Any, rule: Any, instance: Any, k: str) -> Iterator[Any]:
    if rule is False:
        yield _error(f"the key {k!r} is not allowed")
    else:
        yield from validator.descend(instance[k], rule, path=k)


def _evaluated(validator: Any, instance: Any, schema: Any) -> set[str]:
    """The keys that ``schema`` looks at directly and in its valid subschemas (2020-12 core, section 11.3)."""
    if not isinstance(schema, dict):
        return set()
    evaluated: set[str] = set(schema.get("properties", ())) & instance.keys()
    evaluated.update(k for k in instance for each in schema.get("patternProperties", ()) if _matches(each, k))
    for word in ("additionalProperties", "unevaluatedProperties"):
        if word in schema:
            evaluated.update(k for k, v in instance.items() if _valid(validator, v, schema[word]))
    for resolved in _references(validator, schema):
        inner = validator.evolve(schema=resolved.contents, _resolver=resolved.resolver)
        evaluated |= _evaluated(inner, instance, resolved.contents)
    for k, subschema in schema.get("dependentSchemas", {}).items():
        if k in instance:
            evaluated |= _evaluated(validator, instance, subschema)
    for subschema in (s for word in ("allOf", "oneOf", "anyOf") for s in schema.get(word, ())):
        if _valid(validator, instance, subschema):
            evaluated |= _evaluated(validator, instance, subschema)
    if "if" in schema:
        holds = _valid(validator, instance, schema["if"])
        for word in ("if", "then") if holds else ("else",):
            evaluated |= _evaluated(validator, instance, schema.get(word))
    return evaluated


def _references(validator: Any, schema: Any) -> Iterator[Any]:
    from referencing.jsonschema import lookup_recursive_ref

    for word in ("$ref", "$dynamicRef"):
        if word in schema:
            yield validator._resolver.lookup(schema[word])
    if "$recursiveRef" in schema:
        yield lookup_recursive_ref(validator._resolver)


def _valid(validator: Any, instance: Any, schema: Any) -> bool:
    return next(validator.descend(instance, schema), None) is None


def _unique(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if rule and validator.is_type(instance, "array"):
        evaluated = set()
        for i, item in enumerate(instance):
            frozen = _frozen(item)
            if frozen in evaluated:
                yield _error(f"item {i} is not unique")
                return
            evaluated.add(frozen)


def _frozen(value: Any) -> Any:
    """Equal and hashable exactly where JSON Schema holds two values equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, list):
        return ("list", *map(_frozen, value))
    if isinstance(value, dict):
        return ("dict", frozenset((k, _frozen(v)) for k, v in value.items()))
    return ("bool", value) if isinstance(value, bool) else value


def _error(message: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)


_KEYWORDS = {
    "pattern": _match,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "unevaluatedProperties": _unevaluated,
    "uniqueItems": _unique,
}
