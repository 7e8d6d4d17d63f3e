"""JSON Schema: the judge, the keywords with time limits, and how large a schema may be."""

from .judge import SchemaJudge, checker, extract_json, json_schema_of
from .keywords import InvalidSchemaError

__all__ = ["InvalidSchemaError", "SchemaJudge", "checker", "extract_json", "json_schema_of"]
