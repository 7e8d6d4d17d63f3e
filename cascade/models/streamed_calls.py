"""Puts the tool calls of a stream together: their pieces alternate, lack ids or indices, and names come in parts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from judges.reading.tool_calls import arguments_text

from .http import mapping


class StreamedCalls:
    """The tool calls of one streamed answer in OpenAI's chat completion chunks.

    Args:
        tools: The request's tools: their names show where a name ends that comes in parts.

    Attributes:
        calls: The calls so far, in the order in which they began.
    """

    def __init__(self, tools: Sequence[Any] = ()) -> None:
        self.calls: list[dict[str, Any]] = []
        self._tools = tools
        self._latest_places: dict[Any, int] = {}  # of calls, by their index
        self._places_by_id: dict[Any, int] = {}

    def add(self, call: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adds a piece of a tool call.

        Args:
            call: The piece, as the server sent it.

        Returns:
            The piece with the place of its call as the index, and of the name only what it adds.
        """
        function = dict(mapping(call.get("function")))
        if "arguments" in function and not isinstance(function["arguments"], str):
            function["arguments"] = arguments_text(function["arguments"]) if function["arguments"] else ""
        place = self._place_of(call, function)
        if place is None:
            place = len(self.calls)
            started = {"type": "function", **call, "function": dict(function)}
            started.pop("index", None)
            self.calls.append(started)
            self._latest_places[call.get("index")] = place
            self._places_by_id.setdefault(call.get("id"), place)
        else:
            whole = self.calls[place]
            inner = whole["function"]
            if name := function.get("name"):
                added = _added(inner.get("name") or "", name)
                inner["name"] = (inner.get("name") or "") + added
                function["name"] = added
                if not added:
                    del function["name"]
            inner["arguments"] = (inner.get("arguments") or "") + (function.get("arguments") or "")
            for field, value in call.items():
                if field not in ("index", "function") and not whole.get(field):
                    whole[field] = value
        return {**call, "index": place, **({"function": function} if "function" in call else {})}

    def _place_of(self, piece: Mapping[str, Any], function: Mapping[str, Any]) -> int | None:
        """The place of the call that a piece continues; None where it begins another one.

        Pieces of several calls may alternate. Some servers give no index, others the same one to all calls: then another id
        with a name begins another call. An id alone does not, since some servers make up a new one for every piece. Without
        an id, a name begins another call where the arguments of the one before are whole, or where both are names of tools.
        """
        index, call_id, name = piece.get("index"), piece.get("id"), function.get("name")
        latest = self._latest_places.get(index)
        if call_id and call_id in self._places_by_id:
            if latest is not None and self.calls[latest].get("id") == call_id:
                return latest
            if latest is not None or index is None or not name:
                return self._places_by_id[call_id]
        if latest is None and index is None and self.calls:
            latest = len(self.calls) - 1
        if latest is None or not name:
            return latest
        before = self.calls[latest]
        begins = before.get("id") if call_id else _is_whole(before) or self._is_another(before["function"], name)
        return None if begins else latest

    def _is_another(self, before: Mapping[str, Any], name: str) -> bool:
        """Whether a name without an id is that of another call than the one before, whose arguments are not whole."""
        current = before.get("name") or ""
        if name == current:
            return False  # servers repeat it with every piece
        sent = [mapping(tool.get("function")).get("name") for tool in self._tools if isinstance(tool, Mapping)]
        names = [name for name in sent if isinstance(name, str)]
        if current not in names:
            return False
        if before.get("arguments"):
            return name in names
        return not name.startswith(current) and not any(other.startswith(current + name) for other in names)


def _added(current: str, name: str) -> str:
    """What a further name adds to the one so far: servers send it in parts, again, or each time a longer part of it."""
    if name == current:
        return ""
    return name[len(current) :] if current and name.startswith(current) else name


def _is_whole(call: Mapping[str, Any]) -> bool:
    """Whether a call's arguments are a JSON object already."""
    try:
        return isinstance(json.loads(call["function"].get("arguments") or ""), dict)
    except (ValueError, RecursionError):
        return False
