"""The run's part of a response: the field ``cascade`` and the headers ``x-cascade-*``, in every interface."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pydantic_core import PydanticSerializationError, to_json

from cascade.result import Result
from cascade.util.totals import total, total_usage
from judges import Usage

from .request import GatewayRequest, ignored_fields

Headers = list[tuple[bytes, bytes]]


def summary(request: GatewayRequest, result: Result) -> dict[str, Any]:
    """The run behind an answer. An unknown value is null; ``ignored`` is present only where a field was ignored."""
    ignored = ignored_fields(request, result)
    return {
        "run_id": result.run_id,
        "policy": request.policy,
        **({"canary": result.canary} if result.canary is not None else {}),
        "accepted": result.accepted,
        "judged": result.judged,
        "confidence": result.confidence,
        "calibrated": result.calibrated,
        "reason": result.reason,
        "tier": result.tier,
        "model": result.model,
        "cost_usd": result.cost_usd,
        "latency_s": result.latency_s,
        **({"vote": result.vote.to_dict()} if result.vote is not None else {}),
        "attempts": [
            {
                "tier": a.tier,
                "model": a.model,
                "reason": a.reason,
                "confidence": a.confidence,
                "cost_usd": a.cost_usd,
                "latency_s": a.latency_s,
            }
            for a in result.attempts
        ],
        **({"ignored": ignored} if ignored else {}),
    }


def headers(results: Sequence[Result]) -> Headers:
    """The run as headers; for several choices: all run ids, whether all were accepted, the lowest confidence."""
    first = results[0]
    usd = total_usd(results)
    headers = [
        (b"x-cascade-run-id", ",".join(r.run_id for r in results).encode()),
        (b"x-cascade-accepted", b"true" if all(r.accepted for r in results) else b"false"),
        (b"x-cascade-confidence", b"%.6g" % min(r.confidence for r in results)),
        (b"x-cascade-tier", _header(first.tier)),
        (b"x-cascade-model", _header(first.model)),
    ]
    if usd is not None:
        headers.append((b"x-cascade-cost-usd", b"%.9g" % usd))
    return headers


@lru_cache(maxsize=1024)
def _header(name: str) -> bytes:
    """A name from the policy file, encoded for a header: printable ASCII, the rest percent-encoded."""
    return quote(name, safe=" !#$&'()*+,/:;=?@[]|~").encode()


def usage_of(results: Sequence[Result]) -> Usage | None:
    """The tokens of the returned answers; None where any is unknown."""
    counts = [r.answer.usage if r.answer is not None else None for r in results]
    if len(counts) == 1:
        return counts[0]
    return total_usage(counts)


def total_usd(results: Sequence[Result]) -> float | None:
    """The cost of the runs together, in USD; None where any part is unknown."""
    return total(r.cost_usd for r in results)


def dump(value: Any) -> bytes:
    """JSON; a model's text may contain lone surrogates, which JSON can only hold escaped."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=str)
    except (PydanticSerializationError, ValueError):
        import json

        return json.dumps(value, default=str).encode()
