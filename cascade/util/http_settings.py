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


_ENDPOINTS = ("chat/completions", "completions", "responses", "messages", "messages/count_tokens", "embeddings", "models")


def check_path(base_url: str, provider: str) -> None:
    """Raises ValueError where an address includes the path of a request, which the SDK adds itself.

    Args:
        base_url: An address that ``check_address`` takes.
        provider: Whose SDK it is for.
    """
    if any(char.isspace() or char in "\\\"'<>{}|^`" for char in base_url):
        raise ValueError("base_url has a character that no address has")
    path = urlsplit(base_url).path.strip("/").lower()
    endpoint = next((end for end in _ENDPOINTS if path == end or path.endswith(f"/{end}")), None)
    version = "" if provider == "openai" else "/v1"
    if endpoint is not None:
        raise ValueError(f"base_url must end before /{endpoint}, which is added to it: leave {version}/{endpoint} out")
    if provider == "anthropic" and (path == "v1" or path.endswith("/v1")):
        raise ValueError("base_url must end before /v1, since /v1/messages is added to it: leave /v1 out")
