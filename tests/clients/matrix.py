"""Client libraries against a gateway: each asks plainly, streams, calls a tool and returns its result, and uses a schema.

A function of ``CLIENTS`` takes the gateway's address and returns what the client read: text, or ``{"answer": 51}``. Nothing
is imported before it is called.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

WAYS = ("plain", "streamed", "tools", "schema")
QUESTION = "What is 17 * 3?"
WEATHER = "How is the weather in Ulm?"
ANSWER, RAIN, PARSED = "it is fifty-one", "It rains in Ulm.", {"answer": 51}
MODEL = "gpt-4o"  # an alias of the gateway: only the base URL changes
_PARAMETERS: Any = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip

Client = Callable[[str, str], Any]


class Sum(BaseModel):
    """The shape of an answer."""

    answer: int


def weather(city: str) -> str:
    """Returns the weather in a city."""
    return f"rain in {city}"


def openai_chat(url: str, way: str) -> Any:
    """OpenAI's client, chat completions."""
    import openai

    messages: list[Any] = [{"role": "user", "content": WEATHER if way == "tools" else QUESTION}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        if way == "plain":
            return client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content
        if way == "streamed":
            with client.chat.completions.stream(model=MODEL, messages=messages) as stream:
                pieces = [event.delta for event in stream if event.type == "content.delta"]
            return _streamed(pieces)
        if way == "schema":
            done = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Sum)
            return _plain(done.choices[0].message.parsed)
        function = {"name": "weather", "parameters": _PARAMETERS, "strict": True}
        tools: list[Any] = [{"type": "function", "function": function}]
        message = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            assert call.type == "function"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": _run(call.function.arguments)})
        return client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message.content


def openai_responses(url: str, way: str) -> Any:
    """OpenAI's client, responses."""
    import openai

    items: list[Any] = [{"role": "user", "content": WEATHER if way == "tools" else QUESTION}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        if way == "plain":
            return client.responses.create(model=MODEL, input=items).output_text
        if way == "streamed":
            with client.responses.stream(model=MODEL, input=items) as stream:
                pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
                assert stream.get_final_response().output_text == "".join(pieces)
            return _streamed(pieces)
        if way == "schema":
            return _plain(client.responses.parse(model=MODEL, input=items, text_format=Sum).output_parsed)
        tools: list[Any] = [{"type": "function", "name": "weather", "parameters": _PARAMETERS, "strict": True}]
        done = client.responses.create(model=MODEL, input=items, tools=tools)
        items += done.output
        for item in done.output:
            if item.type == "function_call":
                items.append({"type": "function_call_output", "call_id": item.call_id, "output": _run(item.arguments)})
        return client.responses.create(model=MODEL, input=items, tools=tools).output_text


def anthropic_messages(url: str, way: str) -> Any:
    """Anthropic's client."""
    import anthropic

    messages: list[Any] = [{"role": "user", "content": WEATHER if way == "tools" else QUESTION}]
    fields: Any = {"model": MODEL, "max_tokens": 200, "messages": messages}
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        if way == "plain":
            return _text(client.messages.create(**fields))
        if way == "streamed":
            with client.messages.stream(**fields) as stream:
                return _streamed(list(stream.text_stream))
        if way == "schema":
            return _plain(client.messages.parse(**fields, output_format=Sum).parsed_output)
        runner = client.beta.messages.tool_runner(**fields, tools=[anthropic.beta_tool(weather)])
        return _text(runner.until_done())


def openai_agents(url: str, way: str, *, responses: bool = True) -> Any:
    """OpenAI Agents, responses."""
    import agents
    import openai

    agents.set_tracing_disabled(True)

    async def go() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            kind = agents.OpenAIResponsesModel if responses else agents.OpenAIChatCompletionsModel
            agent = agents.Agent(
                name="Agent",
                instructions="Be brief.",
                model=kind(model=MODEL, openai_client=client),
                tools=[agents.function_tool(weather)] if way == "tools" else [],
                output_type=Sum if way == "schema" else None,
            )
            question = WEATHER if way == "tools" else QUESTION
            if way != "streamed":
                output = (await agents.Runner.run(agent, question)).final_output
                return _plain(output) if way == "schema" else output
            streamed = agents.Runner.run_streamed(agent, question)
            pieces = [
                event.data.delta
                async for event in streamed.stream_events()
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            ]
            assert streamed.final_output == "".join(pieces)
            return _streamed(pieces)

    return asyncio.run(go())


def openai_agents_chat(url: str, way: str) -> Any:
    """OpenAI Agents, chat completions."""
    return openai_agents(url, way, responses=False)


def langchain(url: str, way: str, llm: Any = None) -> Any:
    """LangChain, chat completions."""
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    llm = llm or ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none", max_retries=0, use_responses_api=False)
    if way == "plain":
        return llm.invoke(QUESTION).text
    if way == "streamed":
        return _streamed([str(chunk.text) for chunk in llm.stream(QUESTION)])
    if way == "schema":
        return _plain(llm.with_structured_output(Sum).invoke(QUESTION))
    lookup = tool(weather)
    messages: list[Any] = [HumanMessage(WEATHER)]
    bound = llm.bind_tools([lookup])
    messages.append(bound.invoke(messages))
    messages += [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in messages[-1].tool_calls]
    return bound.invoke(messages).text


def langchain_responses(url: str, way: str) -> Any:
    """LangChain, responses."""
    from langchain_openai import ChatOpenAI

    llm = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none", max_retries=0, use_responses_api=True)
    return langchain(url, way, llm)


def langchain_anthropic(url: str, way: str) -> Any:
    """LangChain, Anthropic's messages."""
    from langchain_anthropic import ChatAnthropic

    return langchain(url, way, ChatAnthropic(model=MODEL, base_url=url, api_key="none", max_retries=0, max_tokens=200))


def instructor(url: str, way: str) -> Any:
    """instructor, chat completions."""
    import instructor as library
    import openai

    class Weather(BaseModel):
        city: str

    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as plain:
        client = library.from_openai(plain, mode=library.Mode.JSON_SCHEMA if way == "schema" else library.Mode.TOOLS)
        create: Any = client.chat.completions.create
        messages: Any = [{"role": "user", "content": WEATHER if way == "tools" else QUESTION}]
        if way == "streamed":  # a part of the object at a time
            partials = list(client.chat.completions.create_partial(model=MODEL, messages=messages, response_model=Sum))
            assert _plain(partials[-1]) == PARSED
            return ANSWER
        if way == "schema":
            return _plain(create(model=MODEL, messages=messages, response_model=Sum))
        if way == "tools":
            call = create(model=MODEL, messages=messages, response_model=Weather)
            messages.append({"role": "assistant", "content": f"{call.city}: let me look."})
            messages.append({"role": "user", "content": weather(call.city)})
        return create(model=MODEL, messages=messages, response_model=None).choices[0].message.content


def pydantic_ai(url: str, way: str, model: Any = None) -> Any:
    """pydantic-ai, chat completions."""
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = model or OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    if way == "schema":
        # Their profile of this model for Anthropic's interface has no schemas, so that a tool stands for one.
        kinds: list[Any] = [Sum] if "Anthropic" in type(model).__name__ else [NativeOutput(Sum), Sum]
        for output in kinds:
            done = Agent(model, output_type=output).run_sync(QUESTION)
            assert _plain(done.output) == PARSED
        return PARSED
    agent = Agent(model, tools=[weather] if way == "tools" else [])

    async def stream() -> Any:
        async with agent.run_stream(QUESTION) as run:
            return _streamed([piece async for piece in run.stream_text(delta=True, debounce_by=None)])

    return asyncio.run(stream()) if way == "streamed" else agent.run_sync(WEATHER if way == "tools" else QUESTION).output


def pydantic_ai_responses(url: str, way: str) -> Any:
    """pydantic-ai, responses."""
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    return pydantic_ai(url, way, OpenAIResponsesModel(MODEL, provider=provider))


def pydantic_ai_anthropic(url: str, way: str) -> Any:
    """pydantic-ai, Anthropic's messages."""
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return pydantic_ai(url, way, AnthropicModel(MODEL, provider=AnthropicProvider(base_url=url, api_key="none")))


def _run(arguments: str) -> str:
    import json

    return weather(**json.loads(arguments))


def _text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def _streamed(pieces: list[str]) -> str:
    assert len([piece for piece in pieces if piece]) > 1, "the text came in one piece"
    return "".join(pieces)


CLIENTS: tuple[Client, ...] = (
    *(openai_chat, openai_responses, anthropic_messages, openai_agents, openai_agents_chat),
    *(langchain, langchain_responses, langchain_anthropic, instructor),
    *(pydantic_ai, pydantic_ai_responses, pydantic_ai_anthropic),
)
NODE_CLIENTS = ("Vercel AI SDK, responses", "Vercel AI SDK, chat completions", "Vercel AI SDK, Anthropic's messages")


def names() -> list[str]:
    """The clients as the documentation names them."""
    return [str(client.__doc__).rstrip(".") for client in CLIENTS] + list(NODE_CLIENTS)
