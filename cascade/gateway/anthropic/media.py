"""Anthropic's images, documents and search results as parts of a message in OpenAI's shape."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.validation import list_of, object_of, one_of, text

from .fields import check_block

Part = Mapping[str, Any]

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_FILES = "files that were uploaded to the provider are not supported; send the content itself"


def image(block: Mapping[str, Any], where: str, uses: set[str]) -> Part:
    """An image as a part. Raises ApiError."""
    check_block(block, where, ("source",), ("source",), uses)
    at = f"{where}.source"
    source = object_of(block["source"], at, required=("type",))
    kind = one_of(source["type"], f"{at}.type", ("base64", "url", "file"))
    if kind == "file":
        raise bad_request(_FILES, at, "unsupported")
    if kind == "url":
        object_of(source, at, ("type", "url"), ("url",))
        return {"type": "image_url", "image_url": {"url": _url(source["url"], f"{at}.url")}}
    object_of(source, at, ("type", "media_type", "data"), ("media_type", "data"))
    media_type = one_of(source["media_type"], f"{at}.media_type", _IMAGES)
    url = f"data:{media_type};base64,{text(source['data'], f'{at}.data', empty=False)}"
    return {"type": "image_url", "image_url": {"url": url}}


def document(block: Mapping[str, Any], where: str, uses: set[str]) -> list[Part]:
    """A document as parts: a PDF as a file, anything else as its text and images. Raises ApiError."""
    check_block(block, where, ("source", "title", "context"), ("source",), uses)
    notes = [text(block[name], f"{where}.{name}") for name in ("title", "context") if block.get(name) is not None]
    head: list[Part] = [_text(note) for note in notes if note]
    at = f"{where}.source"
    source = object_of(block["source"], at, required=("type",))
    kind = one_of(source["type"], f"{at}.type", ("base64", "text", "content", "url", "file"))
    if kind == "file":
        raise bad_request(_FILES, at, "unsupported")
    if kind == "text":
        object_of(source, at, ("type", "media_type", "data"), ("data",))
        return [*head, _text(text(source["data"], f"{at}.data"))]
    if kind == "content":
        object_of(source, at, ("type", "content"), ("content",))
        return [*head, *content(source["content"], f"{at}.content", uses)]
    if kind == "url":
        object_of(source, at, ("type", "url"), ("url",))
        uses.add("messages.content.document.url")
        return [*head, {"type": "file", "file": {"file_data": _url(source["url"], f"{at}.url")}}]
    object_of(source, at, ("type", "media_type", "data"), ("data",))
    one_of(source.get("media_type"), f"{at}.media_type", ("application/pdf",))
    data = text(source["data"], f"{at}.data", empty=False)
    name = str(block.get("title") or "document.pdf")
    uses.add("messages.content.document")
    return [*head, {"type": "file", "file": {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}}]


def search_result(block: Mapping[str, Any], where: str, uses: set[str]) -> list[Part]:
    """A search result as text: its title, its source, its content. Raises ApiError."""
    check_block(block, where, ("content", "source", "title"), ("content", "source", "title"), uses)
    head = "\n".join(text(block[name], f"{where}.{name}") for name in ("title", "source"))
    return [_text(head), *content(block["content"], f"{where}.content", uses)]


def media_parts(kind: str, block: Mapping[str, Any], where: str, uses: set[str]) -> list[Part]:
    """A block of the kind ``image``, ``document`` or ``search_result`` as parts. Raises ApiError."""
    if kind == "image":
        return [image(block, where, uses)]
    return document(block, where, uses) if kind == "document" else search_result(block, where, uses)


def content(value: Any, where: str, uses: set[str]) -> list[Part]:
    """The content of a tool result or a document: a string, or blocks, as parts. Empty texts are left out.

    Raises:
        ApiError: A block is not valid.
    """
    if value is None or isinstance(value, str):
        return [_text(value)] if value else []
    parts: list[Part] = []
    for i, block in enumerate(list_of(value, where)):
        at = f"{where}[{i}]"
        object_of(block, at, required=("type",))
        kind = one_of(block["type"], f"{at}.type", ("text", "image", "document", "search_result"))
        if kind == "text":
            check_block(block, at, ("text",), ("text",), uses)
            if content_text := text(block["text"], f"{at}.text"):
                parts.append(_text(content_text))
        else:
            parts += media_parts(kind, block, at, uses)
    return parts


def _text(value: str) -> Part:
    return {"type": "text", "text": value}


def _url(value: Any, where: str) -> str:
    url = text(value, where, empty=False)
    if not url.startswith(("https://", "http://")):
        raise bad_request("must be an http(s) URL", where)
    return url
