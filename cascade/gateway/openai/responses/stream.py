"""A run as the events of a streamed response."""

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from cascade.engine.streaming import Reasoning
from cascade.gateway.errors import ApiError, openai_shape
from cascade.gateway.response import dump
from cascade.result import Result, new_run_id

from .request import ResponseRequest
from .response import finished, frame, message_item, reasoning_item, text_part


class ResponseWriter:
    """Implements Writer. Items follow each other: reasoning, the message, calls. The last event has the whole response.

    Args:
        request: The request.
    """

    def __init__(self, request: ResponseRequest) -> None:
        self._request, self._key, self._created = request, new_run_id(), time()
        self._model = ""
        self._number = 0  # of the next event
        self._index = -1  # of the current or latest item
        self._open = ""  # the kind of the item that is open: reasoning, text, refusal
        self._texts: list[str] = []  # of the open item
        self._blocks: list[Mapping[str, Any]] = []
        self._has_message = False
        self._items: list[Mapping[str, Any]] = []  # those that have ended

    def text(self, text: str, model: str) -> bytes:
        """See Writer."""
        return self._message_piece("text", text, model)

    def refusal(self, text: str, model: str) -> bytes:
        """See Writer."""
        return self._message_piece("refusal", text, model)

    def reasoning(self, reasoning: Reasoning, model: str) -> bytes:
        """See Writer."""
        events = self._start(model)
        self._blocks += reasoning.thinking_blocks
        if not reasoning.text and not (self._blocks and self._request.seals_reasoning):
            return events
        if self._open != "reasoning":
            events += self._end_item()
            item = {**reasoning_item(self._request, self._key, "", ()), "status": "in_progress"}
            events += self._start_item("reasoning", item)
        if not reasoning.text:
            return events
        if not self._texts:
            events += self._reasoning_event("part.added", part={"type": "summary_text", "text": ""})
        self._texts.append(reasoning.text)
        return events + self._reasoning_event("text.delta", delta=reasoning.text)

    def keep_alive(self) -> bytes:
        """See Writer: a comment."""
        return b": waiting\n\n"

    def end(self, result: Result) -> bytes:
        """See Writer."""
        events = self._start(result.model)
        whole = finished(self._request, result, self._key, self._created)
        for item in whole["output"]:
            if item["type"] == "reasoning":
                # What was sent of it already is complete; where no text followed, nothing was.
                if self._index < 0:
                    events += self.reasoning(_reasoning_of(result), result.model)
            elif item["type"] == "message":
                if not self._has_message:
                    (part,) = item["content"]
                    kind = "refusal" if part["type"] == "refusal" else "text"
                    events += self._message_piece(kind, part.get("text", part.get("refusal")), result.model)
                events += self._end_item(item)
            else:
                events += self._end_item() + self._call(item)
        events += self._end_item()
        whole["output"] = self._items
        kind = "response.completed" if whole["status"] == "completed" else "response.incomplete"
        return events + self._event(kind, response=whole)

    def close(self, results: Sequence[Result]) -> bytes:
        """See Writer: a response has one choice."""
        return b""

    def error(self, error: ApiError) -> bytes:
        """See Writer: an event that client libraries raise, and the response as one that failed."""
        details = openai_shape(error)["error"]
        fields = {"code": error.code, "message": error.message, "param": error.param, "error": details}
        failure = {"code": "server_error", "message": error.message}
        whole = {**frame(self._request, self._key, self._created, self._model), "status": "failed", "error": failure}
        return self._event("error", **fields) + self._event("response.failed", response=whole)

    def _event(self, kind: str, **fields: object) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), dump(data))

    def _start(self, model: str) -> bytes:
        if self._number:
            return b""
        self._model = model
        started = frame(self._request, self._key, self._created, model)
        return self._event("response.created", response=started) + self._event("response.in_progress", response=started)

    def _start_item(self, kind: str, item: Mapping[str, Any]) -> bytes:
        self._index, self._open, self._texts = self._index + 1, kind, []
        return self._event("response.output_item.added", output_index=self._index, item=item)

    def _message_piece(self, kind: str, piece: str, model: str) -> bytes:
        events = self._start(model)
        if self._open != kind:
            events += self._end_item()
            events += self._start_item(kind, message_item(self._key, [], "in_progress"))
            self._has_message = True
            events += self._part_event("content_part.added", part=_part(kind, ""))
        self._texts.append(piece)
        if kind == "refusal":
            return events + self._part_event("refusal.delta", delta=piece)
        return events + self._part_event("output_text.delta", delta=piece, logprobs=[])

    def _end_item(self, item: Mapping[str, Any] | None = None) -> bytes:
        """Ends the open item; ``item`` is the whole of it, where that is known."""
        kind, whole = self._open, "".join(self._texts)
        self._open, self._texts = "", []
        if not kind:
            return b""
        if kind == "reasoning":
            item = reasoning_item(self._request, self._key, whole, self._blocks)
            events = b""
            if whole:
                events += self._reasoning_event("text.done", text=whole)
                events += self._reasoning_event("part.done", part={"type": "summary_text", "text": whole})
            return events + self._item_done(item)
        if item is None or item["content"][0].get(kind) != whole:  # a part of a message that the model interrupted to think
            item = message_item(self._key, [_part(kind, whole)], "completed" if item is None else item["status"])
        (part,) = item["content"]
        if kind == "refusal":
            events = self._part_event("refusal.done", refusal=whole)
        else:
            events = self._part_event("output_text.done", text=whole, logprobs=part.get("logprobs", []))
        events += self._part_event("content_part.done", part=part)
        return events + self._item_done(item)

    def _item_done(self, item: Mapping[str, Any]) -> bytes:
        self._items.append(item)
        return self._event("response.output_item.done", output_index=self._index, item=item)

    def _call(self, item: Mapping[str, Any]) -> bytes:
        events = self._start_item("", {**item, "arguments": "", "status": "in_progress"})
        about = {"item_id": item["id"], "output_index": self._index}
        arguments = item["arguments"]
        events += self._event("response.function_call_arguments.delta", **about, delta=arguments)
        events += self._event("response.function_call_arguments.done", **about, name=item["name"], arguments=arguments)
        return events + self._item_done(item)

    def _part_event(self, kind: str, **fields: object) -> bytes:
        about = {"item_id": f"msg_{self._key}", "output_index": self._index, "content_index": 0}
        return self._event(f"response.{kind}", **about, **fields)

    def _reasoning_event(self, kind: str, **fields: object) -> bytes:
        about = {"item_id": f"rs_{self._key}", "output_index": self._index, "summary_index": 0}
        return self._event(f"response.reasoning_summary_{kind}", **about, **fields)


def _reasoning_of(result: Result) -> Reasoning:
    blocks = result.answer.extra.get("thinking_blocks", ()) if result.answer is not None else ()
    return Reasoning(result.tier, result.reasoning or "", tuple(blocks))


def _part(kind: str, text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text} if kind == "refusal" else text_part(text, [])
