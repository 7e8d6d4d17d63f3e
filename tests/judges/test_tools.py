"""The judge of tool calls: the tool exists, its arguments are valid, ``tool_choice`` was obeyed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import judges
from judges import Answer, JudgeInput, Prompt, Verdict

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
PARIS = '{"city": "Paris"}'


def call(name: str = "weather", arguments: Any = PARIS, id: str = "c1") -> dict[str, Any]:
    """A call in OpenAI's shape."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def judge(*calls: Any, text: str = "", tools: Any = TOOLS, options: Any = None, **settings: Any) -> Verdict:
    """The verdict on an answer with these calls."""
    case = JudgeInput(
        prompt=Prompt.of("Weather?", tools=tools), answer=Answer(text, tool_calls=calls), options=options or {}
    )
    verdict = judges.make("tools", **settings).judge(case)
    assert isinstance(verdict, Verdict)
    assert verdict.score is None
    return verdict


@pytest.mark.parametrize(
    "calls",
    [
        [], [call()], [call(arguments='{"city": "Paris", "days": 2}')], [call("now", "")], [call("now", "{}")],
        [call(), call("now", "{}", id="c2")], [call(arguments=' {"city": "P"}\n')], [call("now", '{"anything": [1]}')],
    ],
)  # fmt: skip
def test_a_call_that_can_be_run_is_no_veto(calls: list[Any]) -> None:
    """A tool without a schema takes any object, and one without arguments an empty text."""
    assert not judge(*calls).veto


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([call("wether")], "no tool 'wether'"),
        ([call("")], "no tool ''"),
        ([call("Weather")], "no tool 'Weather'"),
        ([call(arguments='{"city": "Par')], "not JSON"),
        ([call(arguments='{"city": "Paris"} and more')], "not JSON"),
        ([call(arguments='```json\n{"city": "Paris"}\n```')], "not JSON"),
        ([call(arguments='{"city": NaN}')], "not JSON"),
        ([call(arguments="{'city': 'Paris'}")], "not JSON"),
        ([call(arguments='["Paris"]')], "not a JSON object"),
        ([call(arguments='"Paris"')], "not a JSON object"),
        ([call(arguments="{}")], "'city' is a required property"),
        ([call(arguments="")], "'city' is a required property"),
        ([call(arguments='{"city": 1}')], "not of type 'string'"),
        ([call(arguments='{"city": "Paris", "days": 0}')], "minimum"),
        ([call(arguments='{"city": "Paris", "country": "FR"}')], "country"),
        ([call(), call(arguments="{", id="c2")], "not JSON"),
        ([call("now", "[" * 100_000)], "not JSON"),
    ],
)
def test_a_call_that_cannot_be_run_is_a_veto(calls: list[Any], reason: str) -> None:
    """The reason names the tool and what is wrong."""
    verdict = judge(*calls)
    assert verdict.veto
    assert reason in verdict.reason


NAMED = {"type": "function", "function": {"name": "now"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("options", "calls", "veto"),
    [
        ({"tool_choice": "auto"}, [], False), ({"tool_choice": "auto"}, [call()], False),
        ({"tool_choice": "required"}, [], True), ({"tool_choice": "required"}, [call()], False),
        ({"tool_choice": {"type": "any"}}, [], True), ({"tool_choice": {"type": "any"}}, [call()], False),
        ({"tool_choice": "any"}, [], True),
        ({"tool_choice": "none"}, [call()], True), ({"tool_choice": "none"}, [], False),
        ({"tool_choice": {"type": "none"}}, [call()], True),
        ({"tool_choice": NAMED}, [call()], True), ({"tool_choice": NAMED}, [], True),
        ({"tool_choice": NAMED}, [call("now", "{}")], False),
        ({"tool_choice": {"type": "tool", "name": "now"}}, [call()], True),
        ({"tool_choice": {"type": "tool", "name": "now"}}, [call("now", "{}")], False),
        ({"tool_choice": ALLOWED}, [call()], True), ({"tool_choice": ALLOWED}, [call("now", "{}")], False),
        ({"tool_choice": ALLOWED}, [], True),
        ({"tool_choice": {**ALLOWED, "allowed_tools": {"mode": "auto", "tools": [NAMED]}}}, [], False),
        ({"parallel_tool_calls": False}, [call(), call(id="c2")], True), ({"parallel_tool_calls": False}, [call()], False),
        ({"parallel_tool_calls": True}, [call(), call(id="c2")], False),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, [call(), call(id="c2")], True),
        ({"tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}},
         [call(), call(id="c2")], True),
    ],
)  # fmt: skip
def test_tool_choice(options: dict[str, Any], calls: list[Any], veto: bool) -> None:
    """Whether ``tool_choice`` was obeyed, in OpenAI's and in Anthropic's form."""
    assert judge(*calls, text="" if calls else "Sunny.", options=options).veto is veto


def test_tool_choice_of_the_prompt() -> None:
    """A recording has no request; the request's own option goes first."""
    prompt = Prompt.of("Weather?", tools=TOOLS, tool_choice="required")
    tools_judge = judges.make("tools")
    assert tools_judge.judge(JudgeInput(prompt=prompt, answer=Answer("Sunny."))).veto  # type: ignore[union-attr]
    case = JudgeInput(prompt=prompt, answer=Answer("Sunny."), options={"tool_choice": "auto"})
    assert not tools_judge.judge(case).veto  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ['<tool_call>\n{"name": "now"}\n</tool_call>', '[TOOL_CALLS] [{"name": "now"}]'])
def test_a_call_left_in_the_text_is_a_veto(text: str) -> None:
    """The server did not take it out; without tools it is text like any other."""
    assert judge(text=text).veto
    assert not judge(text=text, tools=[]).veto


def test_other_shapes_of_tools() -> None:
    """Anthropic's shape, a provider's own tool without a schema, and a custom tool, whose input is text."""
    tools = [
        {"name": "weather", "input_schema": WEATHER}, {"type": "web_search_20250305", "name": "web_search"},
        {"type": "custom", "custom": {"name": "sql"}},
    ]  # fmt: skip
    sql = {"id": "c3", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    assert not judge(call(), call("web_search", '{"query": "x"}', "c2"), sql, tools=tools).veto
    assert judge(call(arguments="{}"), tools=tools).veto


def test_options() -> None:
    """Each check can be left out; a wrong value is an error."""
    assert not judge(call(arguments="{}"), arguments=False).veto
    assert judge(call(arguments="{"), arguments=False).veto
    assert not judge(text="Sunny.", options={"tool_choice": "required"}, tool_choice=False).veto
    assert judge(call(arguments=json.dumps({"city": "P" * 100})), max_chars=50).veto
    for wrong in ({"arguments": 1}, {"tool_choice": "no"}, {"max_chars": 0}, {"max_chars": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            judges.make("tools", **wrong)


@pytest.mark.parametrize("parameters", [{"type": "any"}, {"$ref": "https://example.com/x"}, {"required": True}])
def test_an_unusable_schema_vetoes_nothing(parameters: dict[str, Any]) -> None:
    """Real clients send such schemas, and providers take them; what is not JSON is a veto all the same."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    verdict = judge(call("f", "{}"), tools=tools)
    assert not verdict.veto
    assert "cannot be used" in verdict.reason
    assert judge(call("f", "{"), tools=tools).veto


@given(arguments=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_stands_in_arguments_is_judged(arguments: str) -> None:
    """It is vetoed exactly where it is not an object that the schema allows, and never raises."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = {} if not arguments else None
    assert judge(call("now", arguments)).veto is not isinstance(value, dict)
