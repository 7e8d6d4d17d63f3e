"""Keys taken out of what providers say, in whatever spelling they echo them."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import lru_cache
from html.entities import codepoint2name
from urllib.parse import unquote, urlsplit

MASK = "[redacted]"
_LIKE_A_KEY = re.compile(
    r"(?i)\b(?:sk|pk|key|api)[-_][\w-]{6,}|\b(?:bearer|basic)\s+\S+|(?<=://)[^/\s@]+@|x-api-key\S*\s*\S+"
)
_MAX_TEXT = 200
_MAX_READ = 20_000  # characters that are searched: a provider may say megabytes
_SHORTEST = 4  # characters of a secret: shorter values of headers are flags and numbers
_TOLERANT = 48  # characters at the start of a secret that are found in any spelling; what follows them goes with them
_START = 8  # characters that give a longer secret away, as where a provider cuts it short


def secrets_of(api_key: str | None, base_url: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Secrets that a provider's error might echo: the key, headers' values, the password in an address."""
    userinfo = urlsplit(base_url or "").netloc.rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    secrets = [api_key or "", userinfo, unquote(userinfo), unquote(password) or unquote(user)]
    for value in headers.values():
        # "Bearer <key>" and "name=<key>; ..." may be echoed by their keys alone.
        words = value.replace(";", " ").split()
        secrets += [value, *words, *(word.partition("=")[2] for word in words)]
    return tuple(dict.fromkeys(secret for secret in secrets if len(secret) >= _SHORTEST))


def redact(text: str, *secrets: str | None) -> str:
    """``text`` without the given secrets and without whatever looks like a key, cut to 200 characters.

    Secrets are found in any case, percent-encoded, escaped as in JSON, HTML or Python, in hexadecimal and in base64, also as
    a part of what was encoded, and where only their beginning is quoted.
    """
    # The word for "no key" that the SDKs are given is not a secret.
    secret_texts = tuple(s for s in secrets if s is not None and len(s) >= _SHORTEST and s != "none")
    text = text[:_MAX_READ]
    if secret_texts:
        text = _finder(secret_texts).sub(MASK, text)
    return _LIKE_A_KEY.sub(MASK, text)[:_MAX_TEXT]


def mask_keys(text: str) -> str:
    """``text`` without whatever looks like a key."""
    return _LIKE_A_KEY.sub(MASK, text)


@lru_cache(maxsize=64)
def _finder(secrets: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first, so that no part of one is taken for another.
    ordered = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join(pattern for secret in ordered for pattern in _patterns(secret)), re.IGNORECASE)


def _patterns(secret: str) -> Iterator[str]:
    spelt = "".join(map(_character, secret[:_TOLERANT]))
    rest = r"[^\s\"'<>]*" if len(secret) > _TOLERANT else ""
    yield spelt + rest
    raw = secret.encode("utf-8", "replace")[:_TOLERANT]
    yield r"[\s:,-]?".join(f"{byte:02x}" for byte in raw) + rest
    for shift in range(3):
        yield _base64(raw, shift) + r"[\w+/=-]*"
    if len(secret) >= 2 * _START:
        yield "".join(map(_character, secret[:_START])) + r"[^\s\"'<>]*"


def _character(char: str) -> str:
    """A pattern of every form in which one character may be written."""
    code = ord(char)
    percent = "".join(f"%(?:25)*{byte:02x}" for byte in char.encode("utf-8", "replace"))
    forms = [re.escape(char), percent, rf"\\u0*{code:x}", rf"\\x{code:02x}", f"&#0*{code};", f"&#x0*{code:x};"]
    if code in codepoint2name:
        forms.append(f"&{codepoint2name[code]};")
    if char == "'":
        forms.append("&apos;")
    if char == " ":
        forms.append(r"\+")
    return rf"\\*(?:{'|'.join(forms)})"


def _base64(raw: bytes, shift: int) -> str:
    """A pattern of the characters that encode only ``raw`` where it begins ``shift`` bytes into a group of three."""
    whole = b64encode(bytes(shift) + raw).decode().rstrip("=")
    first = (8 * shift + 5) // 6
    last = 8 * (shift + len(raw)) // 6
    other = {"+": r"(?:\+|-|%2b)", "/": r"(?:\\?/|_|%2f)"}
    return "".join(other.get(char, char) for char in whole[first:last])
