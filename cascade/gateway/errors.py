"""Why a request gets no answer: one exception, in OpenAI's or Anthropic's shape."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.errors import BudgetError, DeadlineError, JournalError, PolicyError, ProviderError, UnsureError
from cascade.result import Attempt, CallRecord

log = logging.getLogger("cascade.gateway")

_OPENAI = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ANTHROPIC = {**_OPENAI, 413: "request_too_large", 503: "overloaded_error", 504: "timeout_error"}


class ApiError(Exception):
    """An HTTP status and a message for the client: ``param`` is the field at fault, ``code`` a word for programs.

    ``retry_after_s`` says when to come again; ``final`` that another try is of no use, which the clients' retries heed.
    ``more`` is put into the error beside the usual fields.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        final: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s, self.final, self.more = retry_after_s, final, more or {}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the status asks for beside the body."""
        made = []
        if self.retry_after_s is not None:
            made.append((b"retry-after", str(max(1, round(self.retry_after_s + 0.499))).encode()))
        if self.final:
            made.append((b"x-should-retry", b"false"))
        if self.status == 401:
            made.append((b"www-authenticate", b"Bearer"))
        return made


def bad(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that cannot be honoured as it stands."""
    return ApiError(400, message if param is None else f"{param}: {message}", param=param, code=code)


def openai_shape(refusal: ApiError) -> dict[str, Any]:
    """The error as OpenAI's clients read it."""
    kind = _OPENAI.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": refusal.code,
            **refusal.more,
        }
    }


def anthropic_shape(refusal: ApiError) -> dict[str, Any]:
    """The error as Anthropic's clients read it."""
    kind = _ANTHROPIC.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message, **refusal.more}}


def api_error_of(error: Exception) -> ApiError:
    """What a client is told of an exception; what is nobody's business but the operator's goes to the log."""
    match error:
        case ApiError():
            return error
        case UnsureError():
            told = {"cascade": {"run_id": error.run_id, "confidence": error.result.confidence, "accepted": False}}
            return ApiError(422, str(error), code="not_accepted", final=True, more=told)
        case DeadlineError():
            return ApiError(504, str(error), code="deadline", more=_run(error.run_id))
        case BudgetError():
            return ApiError(429, str(error), code="insufficient_quota", final=True, more=_run(error.run_id))
        case ProviderError():
            return _upstream(error)
        case JournalError():
            log.error("%s", error)
            return ApiError(503, "the journal cannot be written, so the answer may not be given", retry_after_s=1)
        case PolicyError():
            log.error("%s", error)
            return ApiError(500, "the policy cannot be used as it is set up; the gateway's log says why", code="policy")
    log_fault(error)
    return ApiError(500, "the gateway failed; its log says why", code="internal")


def log_fault(error: BaseException) -> None:
    """Where something went wrong that nobody foresaw: its class and place alone, since its words may quote a prompt."""
    log.error("a request failed (%s):\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


def _upstream(error: ProviderError) -> ApiError:
    """The provider's fault is a 502; but what every model refused in the same way is told with their status."""
    failed = _failed(error.attempts)
    statuses = {record.status for record in failed}
    more = _run(error.run_id)
    if statuses and statuses <= {400, 413, 422}:
        return ApiError(400, str(error), code="refused_upstream", final=True, more=more)
    if statuses == {429}:
        return ApiError(429, str(error), code="rate_limited_upstream", retry_after_s=5, more=more)
    if failed and all(record.fault_kind == "timeout" for record in failed):
        return ApiError(504, str(error), code="upstream_timeout", more=more)
    return ApiError(502, str(error), code="upstream", more=more)


def _failed(attempts: Sequence[Attempt]) -> list[CallRecord]:
    return [record for attempt in attempts for record in attempt.call_log if record.fault is not None]


def _run(run_id: str) -> dict[str, Any]:
    return {"cascade": {"run_id": run_id}} if run_id else {}
