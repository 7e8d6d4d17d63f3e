"""Errors that a client receives: one exception, in OpenAI's or Anthropic's shape."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.errors import BudgetError, DeadlineError, JournalError, PolicyError, ProviderError, StateError, UnsureError
from cascade.result import Attempt, CallRecord

log = logging.getLogger("cascade.gateway")

_OPENAI = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ANTHROPIC = {**_OPENAI, 413: "request_too_large", 503: "overloaded_error", 504: "timeout_error"}


class ApiError(Exception):
    """An HTTP status and a message for the client.

    Args:
        status: The HTTP status.
        message: What is wrong, for a person.
        param: The field at fault.
        code: A word for programs.
        retry_after_s: Seconds after which another try may succeed.
        final: Whether another try is of no use; clients' automatic retries honour it.
        extra: Further fields of the error.
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
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s, self.final, self.extra = retry_after_s, final, extra or {}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that belong to the error."""
        headers = []
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, round(self.retry_after_s + 0.499))).encode()))
        if self.final:
            headers.append((b"x-should-retry", b"false"))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that cannot be processed (400); the message begins with the field at fault."""
    return ApiError(400, message if param is None else f"{param}: {message}", param=param, code=code)


def openai_shape(error: ApiError) -> dict[str, Any]:
    """The error as OpenAI's clients read it."""
    kind = _OPENAI.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code, **error.extra}}


def anthropic_shape(error: ApiError) -> dict[str, Any]:
    """The error as Anthropic's clients read it."""
    kind = _ANTHROPIC.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message, **error.extra}}


def api_error_of(error: Exception) -> ApiError:
    """The error that a client receives for an exception; details that only concern the operator go to the log."""
    match error:
        case ApiError():
            return error
        case UnsureError():
            run = {"run_id": error.run_id, "confidence": error.result.confidence, "accepted": False}
            return ApiError(422, str(error), code="not_accepted", final=True, extra={"cascade": run})
        case DeadlineError():
            return ApiError(504, str(error), code="deadline", extra=_run(error.run_id))
        case BudgetError():
            return ApiError(429, str(error), code="insufficient_quota", final=True, extra=_run(error.run_id))
        case ProviderError():
            return _upstream(error)
        case JournalError():
            log.error("%s", error)
            message = "the journal cannot be written, so the answer must not be returned"
            return ApiError(503, message, code="journal", retry_after_s=1)
        case StateError():
            message = "the store of shared state is unavailable, so the request's budget cannot be checked; try again"
            return ApiError(503, message, code="state_unavailable", retry_after_s=1)
        case PolicyError():
            log.error("%s", error)
            return ApiError(500, "the policy cannot be used as configured; the gateway's log has the reason", code="policy")
    log_unexpected(error)
    return ApiError(500, "internal error; the gateway's log has the details", code="internal")


def log_unexpected(error: BaseException) -> None:
    """Logs an unexpected exception's class and place only, since its message may quote a prompt."""
    log.error("a request failed (%s):\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


def _upstream(error: ProviderError) -> ApiError:
    """A provider's failure is a 502, except where every model rejected the request with the same kind of status.

    The providers' messages may name internal addresses or an organisation: they go to the log, with the run's id.
    """
    log.warning("run %s: no model answered: %s", error.run_id, error)
    failures = _failures(error.attempts)
    statuses = {record.status for record in failures}
    extra, details = _run(error.run_id), f"the gateway's log has the details of run {error.run_id}"
    if statuses and statuses <= {400, 413, 422}:
        rejected = ", ".join(map(str, sorted(status for status in statuses if status is not None)))
        message = f"every model rejected the request (HTTP {rejected}); {details}"
        return ApiError(400, message, code="refused_upstream", final=True, extra=extra)
    if statuses == {429}:
        message = f"every model is rate limited; {details}"
        return ApiError(429, message, code="rate_limited_upstream", retry_after_s=5, extra=extra)
    if failures and all(record.fault_kind == "timeout" for record in failures):
        return ApiError(504, f"every model timed out; {details}", code="upstream_timeout", extra=extra)
    return ApiError(502, f"no model answered; {details}", code="upstream", extra=extra)


def _failures(attempts: Sequence[Attempt]) -> list[CallRecord]:
    return [record for attempt in attempts for record in attempt.call_log if record.fault is not None]


def _run(run_id: str) -> dict[str, Any]:
    return {"cascade": {"run_id": run_id}} if run_id else {}
