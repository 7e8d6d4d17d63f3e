"""The OpenAPI document of the gateway's own routes. OpenAI and Anthropic document theirs."""

from typing import Any

from cascade import __version__

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_USD: Schema = {"type": ["number", "null"], "minimum": 0, "description": "USD; null if unknown"}
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
    "description": "Tags of your own, stored with the run in the journal",
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
_PROMPT_FIELDS: Schema = {
    "prompt": {"anyOf": [{"type": "string", "minLength": 1}, _MESSAGES]},
    "policy": {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "description": "A policy, or policy/tier",
    },
    "system": _TEXT,
    "schema": {"type": "object", "description": "JSON Schema that the answer must match"},
    "tags": _TAGS,
}
_ACCURACY: Schema = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "description": "The least confidence that is accepted; it can only raise the policy's thresholds",
}
_ROUTE: Schema = {
    "type": "object",
    "required": ["prompt"],
    "additionalProperties": False,
    "properties": {
        **_PROMPT_FIELDS,
        "budget": {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1e6},
                {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,9})?$"},
            ],
            "description": "USD for this run; it can only lower the policy's budget_usd",
        },
        "deadline_s": {"type": "number", "minimum": 0.001, "maximum": 86400},
        "accuracy": _ACCURACY,
        "latency": {
            "type": "number",
            "minimum": 0.001,
            "maximum": 86400,
            "description": "Seconds that the run should take: tiers that are too slow are not asked",
        },
        "session": {
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "description": "Names the conversation, for a policy with sticky",
        },
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 10_000_000},
    },
}
_GATE: Schema = {
    "type": "object",
    "required": ["prompt"],
    "additionalProperties": False,
    "properties": {
        **_PROMPT_FIELDS,
        "answer": _TEXT,
        "tier": {"type": "string", "maxLength": 256},
        "accuracy": _ACCURACY,
        "tools": {"type": "array", "items": {"type": "object"}},
        "tool_choice": {"type": ["string", "object"]},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "finish_reason": {"type": "string", "maxLength": 64},
    },
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
        "score": {"type": ["number", "null"], "description": "null if the judge could not tell"},
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
    "required": ["accepted", "judged", "confidence", "reason", "policy", "tier", "model", "cost_usd", "run_id", "attempts"],
    "properties": {
        "accepted": {
            "type": "boolean",
            "description": "Whether a judge scored the answer and the confidence reached the tier's threshold: gate on this",
        },
        "judged": {
            "type": "boolean",
            "description": "Whether a judge scored or vetoed the answer; if not, confidence is a base rate or prior",
        },
        "confidence": _PROBABILITY,
        "calibrated": {"type": "boolean", "description": "Whether the confidence was calibrated on graded answers"},
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
    "properties": {
        "answer": {"type": ["string", "null"], "description": "null if the policy abstained"},
        "parsed": {},
        "reasoning": {"type": "string", "description": "What the model thought before it answered; absent if it did not"},
        "ignored": {
            "type": "array",
            "items": _TEXT,
            "description": "Fields of the prompt that a model does not take; absent if there are none",
        },
    },
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
                "param": {"type": ["string", "null"], "description": "The invalid field"},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS = {
    400: "A field is missing, invalid or not supported",
    401: "No valid key",
    403: "The key does not allow this request",
    404: "No such policy, tier or run",
    408: "The body arrived too slowly",
    409: "The gateway has no journal",
    413: "The body is too large",
    415: "The content type is not application/json",
    422: "No answer was accepted, and the policy says when_unsure: raise",
    429: "A rate limit or a budget is exhausted",
    431: "The headers are too large",
    500: "Internal or configuration error; the gateway's log has the details",
    502: "No model answered",
    503: "The gateway is overloaded, stopping or not ready",
    504: "The deadline passed",
}
_BODY, _KEY = (400, 401, 403, 408, 413, 415, 431, 500, 503), (400, 401, 403, 431, 503)


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str, answer: Schema, errors: tuple[int, ...], body: Schema | None = None, **fields: object
) -> Schema:
    error_responses = {
        str(s): {"description": _ERRORS[s], "content": _json({"$ref": "#/components/schemas/Error"})} for s in errors
    }
    operation = {
        "summary": summary,
        "responses": {"200": {"description": "Success", "content": answer}, **error_responses},
        **fields,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def document() -> Schema:
    """OpenAPI 3.1."""
    run, answer = {"$ref": "#/components/schemas/Run"}, {"$ref": "#/components/schemas/Answer"}
    id = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
    no_key: Schema = {"security": []}
    status = _json({"type": "object", "required": ["status"], "properties": {"status": _TEXT}})
    events = {"text/event-stream": {"schema": _TEXT}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cascade gateway", "version": __version__},
        "security": [{"bearer": []}, {"key": []}],
        "paths": {
            "/v1/route": {"post": _operation("Answer a prompt", _json(answer), (*_BODY, 404, 422, 429, 502, 504), _ROUTE)},
            "/v1/gate": {"post": _operation("Judge an answer to a prompt", _json(run), (*_BODY, 404, 429, 502, 504), _GATE)},
            "/v1/feedback": {
                "post": _operation(
                    "Report how good a run's answer was", _json({"type": "object"}), (*_BODY, 404, 409, 429), _FEEDBACK
                )
            },
            "/v1/models": {"get": _operation("List the policies and their tiers", _json({"type": "object"}), _KEY)},
            "/healthz": {"get": _operation("Liveness: the process responds", status, (400, 403, 431, 503), **no_key)},
            "/readyz": {"get": _operation("Readiness: requests are accepted", status, (400, 403, 431, 503), **no_key)},
            "/metrics": {"get": _operation("Prometheus metrics", {"text/plain": {"schema": _TEXT}}, _KEY)},
            "/openapi.json": {"get": _operation("This document", _json({"type": "object"}), (400, 403, 431, 503), **no_key)},
            "/dashboard/events": {"get": _operation("Stream a snapshot of the statistics every second", events, _KEY)},
            "/dashboard/runs/{run_id}": {
                "get": _operation("Details of one run", _json({"type": "object"}), (*_KEY, 404, 500), parameters=[id])
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
