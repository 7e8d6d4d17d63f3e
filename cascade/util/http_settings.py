"""Checks that the policy file and the HTTP clients share: a server's address and the largest response body."""

from urllib.parse import urlsplit

MAX_BODY_BYTES = 16 * 2**20  # 100,000 tokens, or 25,000 with five log-probabilities each


def check_address(base_url: str) -> None:
    """Raises ValueError, without quoting it, where an address is not one that the API's paths can be put behind."""
    if not base_url.startswith(("http://", "https://")):
        raise ValueError("base_url must begin with http:// or https://")
    if "?" in base_url or "#" in base_url:
        raise ValueError("base_url must not have a query or a fragment; put a key into api_key_env or headers")
    try:
        parts = urlsplit(base_url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("base_url has no valid host and port")
