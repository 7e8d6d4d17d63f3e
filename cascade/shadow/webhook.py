"""Posts a change of state as JSON to the URL that an environment variable holds."""

import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

log = logging.getLogger("cascade.promise")

_ATTEMPTS, _FIRST_PAUSE_S, _TIMEOUT_S = 4, 1.0, 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Rejects redirects: they lead to a host that the operator did not name."""

    def redirect_request(self, *_: Any) -> None:
        """See urllib: None makes the redirect an error."""


_opener = urllib.request.build_opener(_NoRedirect)


def post_in_background(policy: str, variable: str, body: Mapping[str, Any]) -> None:
    """Posts in a thread of its own.

    Args:
        policy: The policy's name.
        variable: The environment variable with the URL.
        body: Plain data.
    """
    url = os.environ.get(variable)
    if not url:
        log.warning("policy %s: promise.webhook_env: the environment variable %s is not set", policy, variable)
        return
    threading.Thread(target=post, args=(url, body), name="cascade webhook", daemon=True).start()


def post(url: str, body: Mapping[str, Any], *, pause_s: float = _FIRST_PAUSE_S) -> bool:
    """Posts JSON, with retries after connection faults, 408, 429 and 5xx. Returns whether it was accepted.

    Redirects are not followed. The URL, which may be a secret, is not logged.

    Args:
        url: http:// or https://.
        body: Plain data.
        pause_s: The pause before the second attempt; each further one is twice as long.
    """
    if not url.startswith(("http://", "https://")):
        log.warning("the webhook's URL must begin with http:// or https://")
        return False
    data = json.dumps(body).encode()
    error = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json", "User-Agent": "cascade"})
            with _opener.open(request, timeout=_TIMEOUT_S):
                return True
        except HTTPError as fault:
            fault.close()
            error = f"status {fault.code}"
            if fault.code not in (408, 429) and fault.code < 500:
                break
        except (OSError, ValueError, HTTPException) as fault:
            error = type(fault).__name__
    log.error("policy %s: the webhook did not accept the change (%s)", body.get("policy"), error)
    return False
