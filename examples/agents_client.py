"""OpenAI Agents through the gateway: an agent with a tool, whose every turn is one run of a policy.

Start ``cascade serve --port 8000``, then run ``python examples/agents_client.py``.
"""

import asyncio
import os

from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI


@function_tool
def order_status(number: int) -> str:
    """The status of an order.

    Args:
        number: The order's number.
    """
    return {17: "on its way", 18: "returned"}.get(number, "unknown")


def agent(client: AsyncOpenAI, policy: str = "default") -> Agent:
    """``model`` names a policy; the agents call the gateway's chat completions."""
    model = OpenAIChatCompletionsModel(model=policy, openai_client=client)
    return Agent(name="Support", instructions="Answer in one sentence.", model=model, tools=[order_status])


async def ask(question: str, base_url: str, api_key: str = "none") -> str:
    """The agent's final answer. Tracing is off: it would send prompts to OpenAI, past the gateway."""
    async with AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=60) as client:
        result = await Runner.run(agent(client), question, run_config=RunConfig(tracing_disabled=True))
    return str(result.final_output)


def main() -> None:
    """Asks one question."""
    url, key = os.environ.get("CASCADE_URL", "http://127.0.0.1:8000/v1"), os.environ.get("CASCADE_KEY", "none")
    print(asyncio.run(ask("What is the capital of France? Reply with the answer only.", url, key)))


if __name__ == "__main__":
    main()
