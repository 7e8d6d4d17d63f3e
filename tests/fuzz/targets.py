"""Each target feeds one made-up example through the real code and lets only documented results and exceptions pass."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import httpx2
import yaml
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from cascade import Cascade, CascadeError, Policy, PolicyError, Result, RunError, ScriptedModel
from cascade.engine.streaming import Finished
from cascade.journal.record import PendingRecord, dumps
from cascade.journal.record import make as make_record
from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.policy.load import parse
from cascade.telemetry import Telemetry
from cascade.util.redaction import redact
from judges import Answer, Prompt, Verdict, make
from judges.protocol import JudgeInput
from judges.reading import split_reasoning
from judges.sanitize import remove_marks
from judges.schema import InvalidSchemaError
from tests.fuzz import strategies

SLOW_S = 10.0  # an example that takes longer hangs a run
ALL = ["schema", {"use": "rules", "truncated": False}, "logprob", {"use": "self_consistency", "samples": 1}, "verifier"]


@dataclass
class Wire:
    """A transport of the real SDKs' own client that gives what it is told to."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        kind = "text/event-stream" if self.body.startswith((b"data:", b"event:")) else "application/json"
        return httpx2.Response(
            self.status, content=self.body, headers={"content-type": kind, **self.headers}, request=request
        )


class Bench:
    """What the targets share: one event loop, and cascades over the wire."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.wire = Wire()
        self.registry = CollectorRegistry()
        self.telemetry = Telemetry(
            traces=True, metrics=True, content=True, tracer_provider=TracerProvider(), registry=self.registry
        )
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self.wire))
        self.cascades = {kind.__name__: self._cascade(kind, client) for kind in (OpenAIModel, AnthropicModel)}
        self.plain = Cascade(
            self._policy("m"), models={"m": ScriptedModel("m", ["yes", "42", '{"a": 1}'], keep_calls=False)}
        )

    @staticmethod
    def _policy(*models: str, judges: Any = ALL) -> Policy:
        tiers = [{"model": m, "accept_at": 0.9, "judges": judges} for m in models]
        return Policy.model_validate({"tiers": tiers, "max_calls": 12})

    def _cascade(self, kind: Any, client: Any) -> Cascade:
        models = {
            name: kind(
                name=name, model=name, api_key="k-secret-0123456789", base_url="http://h/v1", http_client=client, **options
            )
            for name, options in (("a", {"max_tokens": 9}), ("b", {"structured": "json_object", "timeout_s": 5.0}))
        }
        file = parse(
            "models:\n"
            "  a: {provider: scripted, answers: [x], retry: {attempts: 1}}\n"
            "  b: {provider: scripted, answers: [x], retry: {attempts: 2, initial_backoff_s: 0.001, retry_after_s: 0.001}}\n"
            "policies: {default: {tiers: [{model: a}]}}"
        )
        return Cascade(
            file.model_copy(update={"policies": {"default": self._policy("a", "b")}}),
            models=models,
            telemetry=self.telemetry,
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result in the one loop."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 4 * SLOW_S))

    def close(self) -> None:
        """Closes everything; what is told of all runs can still be shown."""
        generate_latest(self.registry)
        for cascade in (*self.cascades.values(), self.plain):
            self.run(cascade.aclose())
        self.loop.close()


def _provider(bench: Bench, kind: str, example: Any) -> None:
    """A run and a streamed run over a provider that says this: a Result or a RunError, and neither holds the key."""
    bench.wire.status, bench.wire.body, bench.wire.headers, schema = example
    c = bench.cascades[kind]

    async def one_run() -> None:
        for streamed in (False, True):
            value: Any
            try:
                if streamed:
                    *_, last = [event async for event in c.astream("What is 40 + 2?", schema=schema)]
                    assert isinstance(last, Finished)
                    value = last.result
                else:
                    value = await c.arun("What is 40 + 2?", schema=schema)
                assert isinstance(value, Result)
                assert 0.0 <= value.confidence <= 1.0
                assert value.cost_usd is None or value.cost_usd >= 0.0
            except RunError as error:
                value = error
            assert "k-secret" not in repr(value) + repr(value.attempts)
            _check_costs(c, value)

    bench.run(one_run())


def _check_costs(cascade: Cascade, outcome: Result | RunError) -> None:
    """The record that a journal would keep of the run."""
    run = PendingRecord("run", "default", cascade._runtime.compile("default"), Prompt.of("What is 40 + 2?"), {})
    run.attempts += outcome.attempts
    run.end(outcome)
    dumps(make_record(run, "hash").attempts).encode()


def _answer(bench: Bench, example: Any) -> None:
    """An answer through all judges and gate: a Result, whatever is asked and said."""
    prompt, answer, schema = example
    result = bench.run(bench.plain.agate(prompt, answer, schema=schema))
    assert isinstance(result, Result)
    # Its reasoning is not part of the answer, and of an answer that a schema accepts only the JSON is returned.
    text = split_reasoning(answer).answer
    assert result.text == text or (schema is not None and result.text in text)
    remove_marks(answer)
    redact(answer, prompt)


def _schema(bench: Bench, example: Any) -> None:
    """A schema that the caller gave: a verdict, or InvalidSchemaError that says it is none."""
    schema, answer = example
    with suppress(InvalidSchemaError):
        judge = make("schema", schema=schema) if schema is not None else make("schema")
        assert isinstance(judge.judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer(answer))), Verdict)  # type: ignore[arg-type]
    for kind in bench.cascades:
        bench.wire.status, bench.wire.headers = 200, {}
        bench.wire.body = b'{"choices": [{"message": {"content": "{}"}}], "content": [{"type": "text", "text": "{}"}]}'
        with suppress(RunError):
            assert isinstance(bench.run(bench.cascades[kind].arun("q", schema=schema)), Result)


def _policy(bench: Bench, data: Any) -> None:
    """A policy file: read, or a PolicyError; what was read runs, or says with a CascadeError why not."""
    try:
        file = parse(yaml.safe_dump(data, allow_unicode=True))
    except PolicyError as error:
        if not str(error).startswith("policies.yaml:"):
            raise AssertionError(f"names no file: {error}") from error
        return
    file = file.model_copy(update={"journal": None})
    telemetry = bench.telemetry if file.telemetry is not None and (file.telemetry.traces or file.telemetry.metrics) else None
    with suppress(CascadeError):
        cascade = Cascade(file, telemetry=telemetry)
        for name, policy in list(cascade.policies.items())[:2]:
            # Nothing that a policy names is asked here: only what is scripted runs.
            if all(file.models[t].provider == "scripted" for t in policy.model_names):
                with suppress(RunError):
                    assert isinstance(bench.run(cascade.arun("q", policy=name, deadline_s=2.0)), Result)
        bench.run(cascade.aclose())


Check = Callable[[Bench, Any], None]
plain_schemas = st.one_of(st.none(), st.just({"type": "object", "properties": {"a": {"type": "integer"}}}))
TARGETS: dict[str, tuple[st.SearchStrategy[Any], Check]] = {
    "openai bodies": (
        st.tuples(strategies.statuses, strategies.openai_bodies, strategies.headers, plain_schemas),
        lambda bench, example: _provider(bench, "OpenAIModel", example),
    ),
    "anthropic bodies": (
        st.tuples(strategies.statuses, strategies.anthropic_bodies, strategies.headers, plain_schemas),
        lambda bench, example: _provider(bench, "AnthropicModel", example),
    ),
    "answers": (st.tuples(strategies.texts, strategies.answers, st.one_of(plain_schemas, strategies.schemas)), _answer),
    "schemas": (st.tuples(strategies.schemas, strategies.answers), _schema),
    "policies": (strategies.policies, _policy),
}


def timed(check: Check, bench: Bench, example: Any) -> float:
    """Seconds of the processor that one example took; too many are a failure, as is waiting for long."""
    start = process_time()
    check(bench, example)
    seconds = process_time() - start
    assert seconds < SLOW_S, f"took {seconds:.1f} s"
    return seconds
