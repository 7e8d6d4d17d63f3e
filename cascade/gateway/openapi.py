"""The OpenAPI document of the gateway's own routes. OpenAI's and Anthropic's are documented by them."""

from typing import Any

from cascade import __version__

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_USD: Schema = {"type": ["number", "null"], "minimum": 0, "description": "USD; null: unknown"}
_TAGS: Schema = {
    "type": "object",
    "maxProperties": 15,
    "propertyNames": {"minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$", "not": {"const": "key"}},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "maxLength": 256, "pattern": "^[ -~]*$"},
            {"type": "number", "minimum": -1e15, "maximum": 1e15},
            {"type": "boolean"},
        ]
    },
    "description": "The caller's own, for the journal",
}
_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": ["system", "developer", "user", "assistant"]}, "content": _TEXT},
        "additionalProperties": False,
    },
}
_ASKED: Schema = {
    "prompt": {"anyOf": [{"type": "string", "minLength": 1}, _MESSAGES]},
    "policy": {"type": "string", "minLength": 1, "maxLength": 256, "description": "A policy, or policy/tier"},
    "system": _TEXT,
    "schema": {"type": "object", "description": "The JSON Schema of the answer"},
    "tags": _TAGS,
}
_ROUTE: Schema = {
    "type": "object",
    "required": ["prompt"],
    "additionalProperties": False,
    "properties": {
        **_ASKED,
        "budget": {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1e6},
                {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,9})?$"},
            ],
            "description": "USD; lowers the policy's budget_usd",
        },
        "deadline_s": {"type": "number", "minimum": 0.001, "maximum": 86400},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 10_000_000},
    },
}
_GATE: Schema = {
    "type": "object",
    "required": ["prompt", "answer"],
    "additionalProperties": False,
    "properties": {**_ASKED, "answer": _TEXT, "tier": {"type": "string", "maxLength": 256}},
}
_FEEDBACK: Schema = {
    "type": "object",
    "required": ["run_id", "quality"],
    "additionalProperties": False,
    "properties": {
        "run_id": {"type": "string", "minLength": 1, "maxLength": 64},
        "quality": _PROBABILITY,
        "note": {"type": "string", "maxLength": 2000},
    },
}
_VERDICT: Schema = {
    "type": "object",
    "required": ["judge", "score", "veto", "reason"],
    "properties": {
        "judge": _TEXT,
        "score": {"type": ["number", "null"], "description": "null: it could not tell"},
        "veto": {"type": "boolean"},
        "reason": _TEXT,
    },
}
_ATTEMPT: Schema = {
    "type": "object",
    "required": ["tier", "model", "reason", "confidence", "cost_usd", "latency_s", "verdicts"],
    "properties": {
        "tier": _TEXT,
        "model": _TEXT,
        "reason": _TEXT,
        "confidence": _PROBABILITY,
        "cost_usd": _USD,
        "judge_cost_usd": _USD,
        "latency_s": {"type": "number", "minimum": 0},
        "calls": {"type": "integer", "minimum": 0},
        "verdicts": {"type": "array", "items": _VERDICT},
    },
}
_RUN: Schema = {
    "type": "object",
    "required": ["accepted", "confidence", "reason", "policy", "tier", "model", "cost_usd", "run_id", "attempts"],
    "properties": {
        "accepted": {"type": "boolean", "description": "Whether the answer reached its threshold: gate on this"},
        "confidence": _PROBABILITY,
        "calibrated": {"type": "boolean", "description": "Whether the confidence was fitted on graded answers"},
        "reason": _TEXT,
        "policy": _TEXT,
        "tier": _TEXT,
        "model": _TEXT,
        "cost_usd": _USD,
        "latency_s": {"type": "number", "minimum": 0},
        "run_id": _TEXT,
        "attempts": {"type": "array", "items": {"$ref": "#/components/schemas/Attempt"}},
    },
}
_ANSWER: Schema = {
    "allOf": [{"$ref": "#/components/schemas/Run"}],
    "type": "object",
    "required": ["answer"],
    "properties": {"answer": {"type": ["string", "null"], "description": "null: the policy abstained"}, "parsed": {}},
}
_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"], "description": "The field at fault"},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS = {
    400: "What cannot be honoured, by its field",
    401: "No valid key",
    403: "The key may not do this",
    404: "There is no such policy, tier or run",
    408: "The body came too slowly",
    409: "There is no journal",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "No answer was accepted, and the policy says to raise",
    429: "A rate or a budget is used up",
    431: "The headers are too large",
    500: "The gateway or its policies are at fault; its log says why",
    502: "No tier answered",
    503: "More is under way than the gateway takes, or it is not ready",
    504: "The deadline passed",
}
_BODY, _KEY = (400, 401, 403, 408, 413, 415, 431, 500, 503), (400, 401, 403, 431, 503)


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(told: str, answer: Schema, errors: tuple[int, ...], body: Schema | None = None, **more: Any) -> Schema:
    refused = {str(s): {"description": _ERRORS[s], "content": _json({"$ref": "#/components/schemas/Error"})} for s in errors}
    made = {"summary": told, "responses": {"200": {"description": "Done", "content": answer}, **refused}, **more}
    if body is not None:
        made["requestBody"] = {"required": True, "content": _json(body)}
    return made


def document() -> Schema:
    """OpenAPI 3.1."""
    run, answer = {"$ref": "#/components/schemas/Run"}, {"$ref": "#/components/schemas/Answer"}
    id = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
    anyone: Schema = {"security": []}
    status = _json({"type": "object", "required": ["status"], "properties": {"status": _TEXT}})
    events = {"text/event-stream": {"schema": _TEXT}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cascade gateway", "version": __version__},
        "security": [{"bearer": []}, {"key": []}],
        "paths": {
            "/v1/route": {
                "post": _operation("A prompt -> its answer", _json(answer), (*_BODY, 404, 422, 429, 502, 504), _ROUTE)
            },
            "/v1/gate": {
                "post": _operation("A prompt and an answer -> a verdict", _json(run), (*_BODY, 404, 429, 502, 504), _GATE)
            },
            "/v1/feedback": {
                "post": _operation(
                    "What later proved true of a run", _json({"type": "object"}), (*_BODY, 404, 409, 429), _FEEDBACK
                )
            },
            "/v1/models": {"get": _operation("The policies and their tiers", _json({"type": "object"}), _KEY)},
            "/healthz": {"get": _operation("Whether the process answers", status, (400, 403, 431, 503), **anyone)},
            "/readyz": {"get": _operation("Whether requests are taken", status, (400, 403, 431, 503), **anyone)},
            "/metrics": {"get": _operation("Prometheus metrics", {"text/plain": {"schema": _TEXT}}, _KEY)},
            "/openapi.json": {"get": _operation("This", _json({"type": "object"}), (400, 403, 431, 503), **anyone)},
            "/dashboard/events": {"get": _operation("A snapshot of the figures a second", events, _KEY)},
            "/dashboard/runs/{run_id}": {
                "get": _operation("One run", _json({"type": "object"}), (*_KEY, 404, 500), parameters=[id])
            },
        },
        "components": {
            "schemas": {"Run": _RUN, "Answer": _ANSWER, "Attempt": _ATTEMPT, "Error": _ERROR},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }
