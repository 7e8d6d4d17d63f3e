"""A process that compiles schemas and validates answers, so that a gateway's event loop never does: see ``pool``.

It reads requests from the socket in its first argument until the gateway closes it. A request and a response are JSON, after
four bytes with their length.
"""

import json
import signal
import socket
import struct
import sys
from typing import Any

from judges import Answer, Prompt
from judges.protocol import JudgeInput
from judges.schema import InvalidSchemaError, SchemaJudge
from judges.schema.judge import checker

MEMORY_BYTES = 2**30
HEADER = struct.Struct(">I")


def check(schema: Any) -> dict[str, Any]:
    """A schema's errors."""
    try:
        checker(schema)
    except InvalidSchemaError as error:
        return {"problem": str(error)[:300]}
    return {"problem": None}


def validate(schema: Any, text: str, options: dict[str, Any]) -> dict[str, Any]:
    """The findings of a ``SchemaJudge``: the fields of ``judges.schema.offload.Outcome``."""
    case = JudgeInput(prompt=Prompt(Prompt.of("").messages, schema), answer=Answer(text=text))
    try:
        verdict = SchemaJudge(**options).validate(case)
    except InvalidSchemaError as error:
        return {"problem": str(error)[:300]}
    answer = verdict.answer
    if verdict.veto or answer is None:
        return {"problem": None, "veto": verdict.reason if verdict.veto else None}
    json_text = answer.text if answer.text != text else None
    return {
        "problem": None,
        "veto": None,
        "value": answer.parsed,
        "text": json_text,
        "details": dict(verdict.details),
    }


def respond(request: bytes) -> bytes:
    """The response to one request."""
    fields = json.loads(request)
    schema = fields.pop("schema")
    try:
        response = validate(schema, **fields) if fields else check(schema)
    except (MemoryError, RecursionError):
        response = {"problem": "it needs too much memory"}
    return json.dumps(response).encode()


def main() -> None:
    """Answers requests until the gateway closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gateway ends this process
    _limit_memory()
    checker({"type": "object"})  # loads jsonschema
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rwb") as stream:
        stream.write(b"ready")
        stream.flush()
        while header := stream.read(HEADER.size):
            response = respond(stream.read(*HEADER.unpack(header)))
            stream.write(HEADER.pack(len(response)) + response)
            stream.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
