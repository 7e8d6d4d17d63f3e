"""Tool calls: a call that cannot be run, or that the request ruled out, is a veto.

The tool exists, its arguments are JSON and valid against its schema, and ``tool_choice`` was obeyed.
"""

import json
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .protocol import JudgeInput
from .reading import parse_json
from .types import Answer, Verdict

# Calls that the server did not take out of the text: the special tokens of Qwen and Hermes, Llama, Mistral, DeepSeek, Gemma.
_CALL_MARKERS = (
    *("<tool_call>", "<|tool_call", "<function=", "<|python_tag|>", "[TOOL_CALLS]", "<|tool_calls_section_begin|>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<start_function_call>"),
)
_NAME_CHARS = 60  # of a name that a reason quotes


class _Tool(NamedTuple):
    """What the judge needs to know of a tool: its schema (None: any object), and whether its input is text, not JSON."""

    schema: Mapping[str, Any] | None
    takes_text: bool = False


class _Choice(NamedTuple):
    """The limits of a request on calls: how many, and of which tools (None: of all)."""

    least: int = 0
    most: int | None = None
    names: frozenset[str] | None = None


@dataclass(frozen=True)
class ToolsJudge:
    """Vetoes calls of unknown tools or with wrong arguments, and answers that do not do what ``tool_choice`` says.

    Gives no score. It is on wherever a prompt has tools; a tier that lists it sets its options. ``arguments``: whether they
    are checked against the tool's JSON Schema, too. ``tool_choice``: whether it is checked. Arguments over ``max_chars``
    characters are vetoed. A schema that cannot be used vetoes nothing; the verdict's reason says so. Tools and
    ``tool_choice`` may be in OpenAI's or in Anthropic's shape. Raises ValueError for a wrong option.
    """

    arguments: bool = True
    tool_choice: bool = True
    max_chars: int = 1_000_000
    name: str = "tools"
    only_vetoes: bool = True

    def __post_init__(self) -> None:
        for option in ("arguments", "tool_choice"):
            if not isinstance(getattr(self, option), bool):
                raise ValueError(f"{option} must be true or false, got {getattr(self, option)!r}")
        if not isinstance(self.max_chars, int) or isinstance(self.max_chars, bool) or self.max_chars < 1:
            raise ValueError(f"max_chars must be a whole number from 1 on, got {self.max_chars!r}")

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
        """The first thing that is wrong as a veto, or a verdict without one."""
        prompt, answer = case.prompt, case.answer
        if not prompt.tools:
            return Verdict(self.name)
        if self.tool_choice and (reason := _disobeyed(_choice(case), answer)) is not None:
            return self._veto(reason)
        if not answer.tool_calls:
            marker = next((marker for marker in _CALL_MARKERS if marker in answer.text), None)
            return Verdict(self.name) if marker is None else self._veto(f"a call stands in the text, after {marker}")
        tools = dict(_named(tool) for tool in prompt.tools if isinstance(tool, Mapping))
        pending: list[tuple[str, Mapping[str, Any], str]] = []
        for call in answer.tool_calls:
            name, arguments = _parts(call)
            tool = tools.get(name)
            if tool is None:
                return self._veto(f"there is no tool {name[:_NAME_CHARS]!r}")
            if tool.takes_text:
                continue
            if len(arguments) > self.max_chars:
                return self._veto(f"{_of(name)} are longer than {self.max_chars} characters")
            try:
                value = parse_json(arguments or "{}")
            except (ValueError, RecursionError) as error:
                return self._veto(f"{_of(name)} are not JSON: {str(error)[:120]}")
            if not isinstance(value, dict):
                return self._veto(f"{_of(name)} are not a JSON object")
            if tool.schema and self.arguments:
                pending.append((name, tool.schema, arguments or "{}"))
        return self._validated(pending) if pending else Verdict(self.name)

    def _validated(self, pending: Sequence[tuple[str, Mapping[str, Any], str]]) -> Verdict | Awaitable[Verdict]:
        from .schema.offload import is_small, offload

        if offload.get() is None or all(is_small(schema, arguments) for _, schema, arguments in pending):
            notes: list[str] = []
            for name, schema, arguments in pending:
                verdict = self._outcome(name, *_validate(schema, arguments))
                if verdict.veto:
                    return verdict
                notes += [verdict.reason] if verdict.reason else []
            return Verdict(self.name, reason="; ".join(notes))
        return self._validated_elsewhere(pending)

    async def _validated_elsewhere(self, pending: Sequence[tuple[str, Mapping[str, Any], str]]) -> Verdict:
        from .schema import InvalidSchemaError
        from .schema.offload import is_small, offload

        send = offload.get()
        notes: list[str] = []
        for name, schema, arguments in pending:
            if send is None or is_small(schema, arguments):
                verdict = self._outcome(name, *_validate(schema, arguments))
            else:
                try:
                    outcome = await send(schema, arguments, {"max_chars": self.max_chars})
                    verdict = self._outcome(name, outcome.veto, None)
                except InvalidSchemaError as error:
                    verdict = self._outcome(name, None, str(error))
            if verdict.veto:
                return verdict
            notes += [verdict.reason] if verdict.reason else []
        return Verdict(self.name, reason="; ".join(notes))

    def _outcome(self, name: str, veto: str | None, problem: str | None) -> Verdict:
        if veto is not None:
            return self._veto(f"{_of(name)}: {veto}")
        note = f"the schema of {name[:_NAME_CHARS]!r} cannot be used, so that its arguments were not checked against it: "
        return Verdict(self.name, reason="" if problem is None else note + problem[:200])

    def _veto(self, reason: str) -> Verdict:
        return Verdict(self.name, veto=True, reason=reason)


def _of(name: str) -> str:
    return f"the arguments of {name[:_NAME_CHARS]!r}"


def _validate(schema: Mapping[str, Any], arguments: str) -> tuple[str | None, str | None]:
    """Why the arguments are not valid, and why the schema cannot be used."""
    from .schema import InvalidSchemaError, SchemaJudge
    from .types import Prompt

    case = JudgeInput(prompt=Prompt(({"role": "user", "content": ""},), schema), answer=Answer(arguments))
    try:
        verdict = SchemaJudge().validate(case)
    except InvalidSchemaError as error:
        return None, str(error)
    return (verdict.reason if verdict.veto else None), None


def _named(tool: Mapping[str, Any]) -> tuple[str, _Tool]:
    """A tool of OpenAI's shape (a function, or a custom tool that takes text) or Anthropic's, with its name."""
    function, custom = tool.get("function"), tool.get("custom")
    if isinstance(function, Mapping):
        schema = function.get("parameters")
        return str(function.get("name")), _Tool(schema if isinstance(schema, Mapping) else None)
    if isinstance(custom, Mapping):
        return str(custom.get("name")), _Tool(None, takes_text=True)
    schema = tool.get("input_schema", tool.get("parameters"))
    return str(tool.get("name")), _Tool(schema if isinstance(schema, Mapping) else None)


def _parts(call: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the arguments of a call, as JSON text."""
    function = call.get("function")
    if not isinstance(function, Mapping):
        function = call.get("custom") if isinstance(call.get("custom"), Mapping) else call
    assert isinstance(function, Mapping)
    arguments = function.get("arguments", "")
    return str(function.get("name")), arguments if isinstance(arguments, str) else json.dumps(arguments)


def _choice(case: JudgeInput) -> _Choice:
    """What the request says of calls, in OpenAI's words or in Anthropic's; nothing where it is in neither's."""
    options = case.options
    choice = options.get("tool_choice", case.prompt.tool_choice)
    single = options.get("parallel_tool_calls") is False
    if isinstance(choice, Mapping):
        single = single or choice.get("disable_parallel_tool_use") is True
        inner = choice.get("allowed_tools")
        if choice.get("type") == "allowed_tools" and isinstance(inner, Mapping):
            names = frozenset(_names(inner.get("tools")))
            return _limit(inner.get("mode"), names, single=single)
        function = choice.get("function", choice.get("custom"))
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        if isinstance(name, str):
            return _Choice(1, 1 if single else None, frozenset((name,)))
        choice = choice.get("type")
    return _limit(choice, None, single=single)


def _limit(mode: Any, names: frozenset[str] | None, *, single: bool) -> _Choice:
    if mode == "none":
        return _Choice(0, 0)
    return _Choice(1 if mode in ("required", "any") else 0, 1 if single else None, names)


def _names(tools: Any) -> Iterator[str]:
    for tool in tools if isinstance(tools, Sequence) else ():
        if isinstance(tool, Mapping):
            yield _named(tool)[0]


def _disobeyed(choice: _Choice, answer: Answer) -> str | None:
    count = len(answer.tool_calls)
    if choice.most is not None and count > choice.most:
        return "tool_choice: no tool may be called" if choice.most == 0 else f"{count} calls where one is allowed"
    if count < choice.least:
        needed = "a tool" if choice.names is None else " or ".join(sorted(repr(name[:_NAME_CHARS]) for name in choice.names))
        return f"tool_choice: {needed} must be called"
    if choice.names is not None:
        for call in answer.tool_calls:
            name, _ = _parts(call)
            if name not in choice.names:
                return f"tool_choice: {name[:_NAME_CHARS]!r} may not be called"
    return None
