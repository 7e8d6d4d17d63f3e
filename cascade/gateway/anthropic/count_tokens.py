"""``POST /v1/messages/count_tokens``: how many tokens a request has, by Anthropic's count where a model of its is asked."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.gateway.endpoint import Reply
from cascade.gateway.request import GatewayRequest
from cascade.gateway.run_request import run_options
from cascade.models.protocol import ModelError

from .request import read

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

log = logging.getLogger("cascade.gateway")

_BYTES_PER_TOKEN = 3.5  # of English and code; other scripts have more bytes to a character, and more tokens
_MESSAGE_TOKENS = 4
_IMAGE_TOKENS = 1600  # of the largest that Anthropic does not shrink


async def count_tokens(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """Answers a request for a count. No model writes anything, so that it costs nothing and is not a run."""
    request = read(body, reply.header(b"anthropic-beta"), counts=True)
    config = gateway.active
    run_options(config, caller, request)
    count: int | None = None
    with config as cascade:
        try:
            count = await cascade.count_tokens(request.prompt, policy=request.policy, request=request.model_request())
        except ModelError as error:
            log.warning("the tokens are estimated, since no model counted them: %s", error)
    estimated = count is None
    tokens = estimated_tokens(request) if count is None else count
    await reply.json({"input_tokens": tokens, "cascade": {"policy": request.policy, "estimated": estimated}})


def estimated_tokens(request: GatewayRequest) -> int:
    """About how many tokens a request has, by the bytes of its text; each image counts as a large one."""
    size, images = 0, 0
    for message in request.messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        for part in parts:
            if part["type"] == "text":
                size += len(part["text"].encode("utf-8", "replace"))
            elif part["type"] == "image_url":
                images += 1
            else:
                size += len(json.dumps(part)) // 2
        for call in message.get("tool_calls") or ():
            size += len(json.dumps(call["function"]))
    size += len(json.dumps(request.tools)) if request.tools else 0
    return max(1, round(size / _BYTES_PER_TOKEN) + _MESSAGE_TOKENS * len(request.messages) + _IMAGE_TOKENS * images)
