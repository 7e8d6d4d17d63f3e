"""JSON Schema: the judge, the keywords with time limits, and how large a schema may be."""

from .judge import SchemaJudge, checker, find_valid_json, json_schema_of
from .keywords import InvalidSchemaError

__all__ = ["InvalidSchemaError", "SchemaJudge", "checker", "find_valid_json", "json_schema_of"]
