"""Embeddings by OpenAI's API: OpenAI itself or any compatible server. An embedding comes as an answer without text."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from judges import Answer, Prompt, Usage

from .http import load, malformed, mapping
from .openai import OpenAIModel
from .protocol import ModelError, Request
from .usage import chat_usage, stated_cost

EMBEDDING = "embedding"
"""The name under which ``Answer.extra`` holds an embedding."""
_LARGEST = 1e6  # of a number in an embedding; most have a length of 1


@dataclass(kw_only=True, eq=False, repr=False)
class OpenAIEmbeddings(OpenAIModel):
    """Implements Model: the answer to a prompt is the embedding of its last user message, in ``extra["embedding"]``.

    See SdkModel for the settings that it shares with other models.

    Args:
        dimensions: How many numbers an embedding has; a reply with another number of them is a fault.
        requests_dimensions: Whether the server is asked for that many.
    """

    path: ClassVar[str] = "/embeddings"
    dimensions: int
    requests_dimensions: bool = False

    async def prepare(self) -> None:
        """Loads the SDK, which takes a second at first: that must not count as the server's time."""
        await load(self.sdk)

    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """See SdkModel."""
        shortened = {"dimensions": self.dimensions} if self.requests_dimensions else {}
        return {"model": self.model, "input": prompt.text, "encoding_format": "float", **shortened, **self.options}

    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """See SdkModel."""
        counted, data = body.get("usage"), body.get("data")
        usage = chat_usage(_as_input(counted), self.name)
        first = data[0] if isinstance(data, list) and data else None
        vector = vector_of(mapping(first).get("embedding"), self.dimensions)
        if vector is None:
            raise malformed(self.name, f"no embedding of {self.dimensions} numbers", usage)
        cost = stated_cost(counted) if self.cost_from_provider else None
        return [Answer("", usage=usage, cost_usd=cost, model=self.model, extra={EMBEDDING: vector})]


def _as_input(counted: Any) -> Any:
    """A usage whose tokens are all input: an embedding is no output that is billed. Some servers count the total alone."""
    if not isinstance(counted, Mapping):
        return counted
    tokens = counted.get("prompt_tokens", counted.get("total_tokens"))
    return {**counted, "prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}


def vector_of(value: Any, dimensions: int) -> Sequence[float] | None:
    """An embedding as plain numbers; None where it is not a list of so many finite numbers, or all of them are 0."""
    if not isinstance(value, list | tuple | array) or len(value) != dimensions:
        return None
    if any(isinstance(x, bool) or not isinstance(x, int | float) or not -_LARGEST < x < _LARGEST for x in value):
        return None
    vector = array("d", value)
    return vector if any(vector) and all(map(isfinite, vector)) else None


class StoredEmbeddings:
    """Implements Model from stored embeddings: no request is sent and nothing is paid.

    Args:
        name: The model's name.
        by_text: By the text that was embedded, the answer that an embedding model gave.
    """

    def __init__(self, name: str, by_text: Mapping[str, Answer]) -> None:
        self.name, self._by_text = name, by_text

    @property
    def max_cost_usd(self) -> float | None:
        """USD of the most expensive; None where the cost of one is unknown."""
        costs = [answer.cost_usd for answer in self._by_text.values()]
        known_costs = [usd for usd in costs if usd is not None]
        return max(known_costs, default=0.0) if len(known_costs) == len(costs) else None

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """See Model. Raises ModelError for a text that is not among them."""
        answer = self._by_text.get(prompt.text)
        if answer is None:
            raise ModelError(f"{self.name}: no embedding of this text is stored", model=self.name, usage=Usage())
        return [answer]

    async def close(self) -> None:
        """Nothing to close."""
