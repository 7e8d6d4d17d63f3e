"""One sampled run whose missing tiers are to be asked, in memory and as plain data in the journal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade.journal.record import answer_json
from cascade.journal.shadows import ShadowRow
from cascade.models.protocol import Request
from judges import Answer, Prompt
from judges.equivalence import key

_NO_PROMPT = Prompt.of("skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowJob:
    """A sampled run.

    Attributes:
        run_id: The run.
        policy: The policy's name.
        probability: The probability with which the run was sampled.
        queued: When it ended, in Unix seconds.
        tiers: The tiers to ask.
        prompt: The run's prompt.
        request: The options of its requests.
        answer: The answer that it returned; None where it abstained.
        keeps_text: Whether the journal may hold the texts.
        is_stored: Whether its rows are in the journal already.
        is_skipped: Whether there was no room for it: it is only recorded in the journal, without texts.
    """

    run_id: str
    policy: str
    probability: float
    queued: float
    tiers: Sequence[str]
    prompt: Prompt
    request: Request
    answer: Answer | None
    keeps_text: bool
    is_stored: bool = False
    is_skipped: bool = False

    @property
    def size(self) -> int:
        """About how many characters it holds; an image counts as its text."""
        prompt = self.prompt
        texts = 0 if self.answer is None else len(self.answer.text) + len(self.answer.reasoning or "")
        return texts + _size((prompt.messages, prompt.tools, prompt.schema if isinstance(prompt.schema, Mapping) else None))

    def without_texts(self) -> "ShadowJob":
        """The same run as one that is skipped."""
        return replace(self, prompt=_NO_PROMPT, request=Request(), answer=None, keeps_text=False, is_skipped=True)

    def row(self, tier: str, model: str) -> ShadowRow:
        """The row of one tier."""
        return ShadowRow(
            run_id=self.run_id,
            tier=tier,
            model=model,
            policy=self.policy,
            probability=self.probability,
            queued=self.queued,
            job=self._to_json() if self.keeps_text else None,
        )

    def agrees(self, answer: Answer) -> bool | None:
        """Whether an answer says the same as the one returned; None where their texts do not decide it."""
        returned = self.answer
        if returned is None or returned.tool_calls or answer.tool_calls:
            return None
        return key(returned.text, "auto") == key(answer.text, "auto")

    def _to_json(self) -> dict[str, Any]:
        schema = self.prompt.schema
        make = getattr(schema, "model_json_schema", None)
        return {
            "prompt": {
                "messages": [dict(message) for message in self.prompt.messages],
                "schema": make() if make is not None else schema,
                "tools": list(self.prompt.tools),
            },
            "request": {
                "max_tokens": self.request.max_tokens,
                "temperature": self.request.temperature,
                "options": dict(self.request.options),
            },
            "answer": None if self.answer is None else answer_json(self.answer),
        }


def job_of(row: ShadowRow) -> ShadowJob:
    """The job of a row that another process left. Raises KeyError or TypeError where it is not what ``row`` stored."""
    job: Mapping[str, Any] = row.job or {}
    prompt, request, answer = job["prompt"], job["request"], job["answer"]
    return ShadowJob(
        run_id=row.run_id,
        policy=row.policy,
        probability=row.probability,
        queued=row.queued,
        tiers=(row.tier,),
        prompt=Prompt(tuple(prompt["messages"]), prompt["schema"], tuple(prompt["tools"])),
        request=Request(max_tokens=request["max_tokens"], temperature=request["temperature"], options=request["options"]),
        answer=None if answer is None else Answer(answer["text"], tool_calls=tuple(answer.get("tool_calls", ()))),
        keeps_text=True,
        is_stored=True,
    )


def _size(value: Any) -> int:
    """The characters of all texts in plain data."""
    total, todo = 0, [value]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            total += len(node)
        elif isinstance(node, Mapping):
            total += sum(map(len, node))
            todo += node.values()
        elif isinstance(node, list | tuple):
            todo += node
    return total
