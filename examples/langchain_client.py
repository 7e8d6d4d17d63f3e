"""LangChain through the gateway: one base URL, and no answer where none was accepted.

Start ``cascade serve --port 8000``, then run ``python examples/langchain_client.py``.
"""

import os
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_openai import ChatOpenAI


def model(base_url: str, api_key: str = "none") -> ChatOpenAI:
    """``model`` names a policy. The gateway retries within the run's deadline, so the client does not."""
    return ChatOpenAI(model="default", base_url=base_url, api_key=api_key, max_retries=0, timeout=60)


def require_answer(message: AIMessage) -> str:
    """The text of an accepted answer. With `when_unsure: abstain` the content is empty where none was accepted."""
    if not message.content:
        raise ValueError(f"no answer was accepted: {message.additional_kwargs.get('refusal')}")
    return str(message.content)


def chain(base_url: str, api_key: str = "none") -> "Runnable[Any, str]":
    """A chain that ends with an accepted answer or raises; its policy says ``when_unsure: abstain``."""
    return model(base_url, api_key) | RunnableLambda(require_answer)


def main() -> None:
    """Asks one question."""
    url, key = os.environ.get("CASCADE_URL", "http://127.0.0.1:8000/v1"), os.environ.get("CASCADE_KEY", "none")
    print(chain(url, key).invoke("What is the capital of France? Reply with the answer only."))


if __name__ == "__main__":
    main()
