"""How long to wait, in all the forms in which providers say it."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.models.retry_delay import retry_delay

GEMINI = {
    "error": {
        "code": 429,
        "message": "You exceeded your quota.",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ],
    }
}


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "2"}, None, 2.0),
        ({"retry-after": "1.5"}, None, 1.5),
        ({"retry-after": " 1.5 "}, None, 1.5),
        ({"retry-after": "30s"}, None, 30.0),
        ({"retry-after": "1m30s"}, None, 90.0),
        ({"retry-after": "1970-01-01T00:00:00Z"}, None, 0.0),
        ({}, {"error": {"message": "slow down", "retry_after": 12}}, 12.0),
        ({}, {"error": {"message": "slow down", "retry_after": True}}, None),
        ({}, {"error": {"message": "slow down", "metadata": {"retry_after": 4}}}, 4.0),
        ({}, {"error": "slow down", "retry_after": 4}, 4.0),
        ({}, {"description": "Too many requests", "parameters": {"retry_after": 4}}, 4.0),
        ({}, {"detail": "Request was throttled. Expected available in 12 seconds."}, 12.0),
        ({}, {"message": "You are being rate limited, please wait 20 seconds."}, 20.0),
        ({}, {"message": "Please retry after 1 day."}, 86_400.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, None, 0.25),
        ({"retry-after-ms": "12.5"}, None, 0.0125),
        ({"retry-after-ms": "soon", "retry-after": "3"}, None, 3.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None, 0.0),
        ({}, GEMINI, 34.5),
        ({}, [GEMINI], 34.5),
        ({}, GEMINI["error"], 34.5),
        ({"retry-after": "2"}, GEMINI, 2.0),
        ({}, {"message": "Rate limit reached for gpt-x. Please try again in 1.2s. Visit ..."}, 1.2),
        ({}, {"error": {"message": "Limit 3, Used 3. Please try again in 20ms."}}, 0.02),
        ({}, {"error": {"message": "Please try again in 6m0s."}}, 360.0),
        ({}, {"error": {"message": "please try again in 1h2m3.5s"}}, 3723.5),
        ({}, {"message": "Please retry after 6 seconds."}, 6.0),
        ({}, {"message": "Please retry in 34.074824224s."}, 34.074824224),
        ({}, {"message": "Please try again in a while."}, None),
        ({}, {"message": "Please try again in 3 steps."}, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "-3"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({}, None, None),
        ({}, "Please try again in 1s", 1.0),
        ({}, {"detail": "Please try again in 3s"}, 3.0),
        ({}, {"detail": [{"msg": "retry after 5 s", "loc": ["body"]}]}, 5.0),
        ({}, {"error": {"details": [{"retryDelay": 5}]}}, None),
    ],
)
def test_every_form_is_obeyed(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    """Headers first; what is not an amount of time says nothing."""
    assert retry_delay(headers, body) == (None if seconds is None else pytest.approx(seconds))


def test_a_date_is_a_moment() -> None:
    """In HTTP's form, to the second."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    delay = retry_delay({"retry-after": date}, None)
    assert delay is not None
    assert 28 < delay <= 30


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["error", "message", "details", "retryDelay"]), v),
        max_leaves=10,
    ),
    st.text(),
)
def test_whatever_a_body_is_it_never_fails(body: Any, header: str) -> None:
    """Nor does a long message take long to search."""
    began = time.thread_time()
    delay = retry_delay({"retry-after": header}, body)
    assert delay is None or delay >= 0.0
    retry_delay({}, {"message": "try again in " + "1m " * 20_000 + "x"})
    assert time.thread_time() - began < 1.0
