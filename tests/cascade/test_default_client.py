"""Cascade and the module-level functions as a service uses them."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest

import cascade
from cascade import Cascade, Policy, PolicyError, ScriptedModel, default_client
from tests.wire_server import WireServer

SCRIPTED = """
models:
  m: {provider: scripted, answers: [hello]}
policies:
  default: {tiers: [{model: m, accept_at: 0.5, judges: [rules]}]}
  strict: {tiers: [{model: m, judges: [{use: rules, choices: ["yes", "no"]}]}]}
"""


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """A policy file with a scripted model."""
    path = tmp_path / "p.yaml"
    path.write_text(SCRIPTED)
    return path


def test_repr_names_the_policies(policy_file: Path) -> None:
    with Cascade(policy_file) as service:
        assert repr(service) == "<Cascade: default, strict>"


def test_run_by_argument_environment_and_folder(policy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is found by argument, then CASCADE_POLICIES, then ./policies.yaml, then the packaged default."""
    assert cascade.run("hi", policy_file=policy_file).text == "hello"
    monkeypatch.setenv("CASCADE_POLICIES", str(policy_file))
    assert cascade.run("hi").text == "hello"
    monkeypatch.delenv("CASCADE_POLICIES")
    monkeypatch.chdir(tmp_path)
    r = cascade.run("What is the capital of France? Reply with the answer only.")
    assert "Paris" in r.text
    (tmp_path / "policies.yaml").write_text(SCRIPTED.replace("hello", "here"))
    assert cascade.run("hi").text == "here"


def test_run_inside_a_running_loop_and_in_threads(policy_file: Path) -> None:
    """The synchronous call works where a loop runs already, and from many threads at once."""

    async def inside() -> str:
        return cascade.run("hi", policy_file=policy_file).text

    assert asyncio.run(inside()) == "hello"
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(cascade.run("hi", policy_file=policy_file).text)) for _ in range(16)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert texts == ["hello"] * 16


def test_gate_scores_an_answer_from_elsewhere(policy_file: Path) -> None:
    """gate asks no model; the policy's judges and threshold decide."""
    assert cascade.gate("q", "yes", policy="strict", policy_file=policy_file).attempts[0].verdicts[0].veto is False
    refused = cascade.gate("q", "maybe", policy="strict", policy_file=policy_file)
    assert (refused.accepted, refused.reason, refused.text) == (False, "vetoed", "maybe")


def test_unknown_policy_names_the_nearest(policy_file: Path) -> None:
    """A misspelt policy says what was meant."""
    with pytest.raises(PolicyError, match="did you mean 'strict'"):
        cascade.run("hi", policy="stict", policy_file=policy_file)


def test_cascade_closes_its_models() -> None:
    """Both context managers close the models; a closed Cascade refuses to run."""
    model = ScriptedModel("m", ["x"])
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0}]})

    async def use() -> None:
        async with Cascade(policy, models={"m": model}) as c:
            assert (await c.arun("q")).text == "x"
        with pytest.raises(RuntimeError, match="closed"):
            await c.arun("q")

    asyncio.run(use())
    assert model.closed
    with Cascade(policy, models={"m": ScriptedModel("m", ["y"])}) as c:
        assert c.run("q").text == "y"


def test_cancelling_reaches_the_model() -> None:
    """A cancelled run leaves nothing running."""
    gone = asyncio.Event()

    class Hanging:
        name = "m"

        async def answer(self, prompt: object, request: object) -> list[cascade.Answer]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                gone.set()
                raise
            return []

        async def close(self) -> None: ...

    async def use() -> None:
        c = Cascade(Policy.model_validate({"tiers": [{"model": "m"}]}), models={"m": Hanging()})
        task = asyncio.create_task(c.arun("q"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gone.is_set()

    asyncio.run(use())


@pytest.mark.parametrize("bad", [{"budget_usd": -1.0}, {"deadline_s": 0.0}, {"budget_usd": float("nan")}])
def test_wrong_limits_are_refused(policy_file: Path, bad: dict[str, float]) -> None:
    """A limit that makes no sense is an error, not an odd run."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        cascade.run("hi", policy_file=policy_file, **bad)


def test_all_is_locked() -> None:
    """Every public name loads, and the list is the documented one."""
    assert sorted(cascade.__all__) == cascade.__all__
    for name in cascade.__all__:
        assert getattr(cascade, name) is not None
    with pytest.raises(AttributeError):
        _ = cascade.nonesuch


def test_gate_never_swaps_the_callers_answer() -> None:
    """Where the samples agree on another answer, the caller's is refused and returned as it was."""
    tiers = [{"model": "m", "accept_at": 0.5, "judges": ["self_consistency"]}]
    policy = Policy.model_validate({"tiers": tiers})
    with Cascade(policy, models={"m": ScriptedModel("m", ["51"])}) as c:
        refused = c.gate("What is 17 * 3?", "41")
        assert (refused.text, refused.accepted, refused.reason) == ("41", False, "vetoed")
        assert c.gate("What is 17 * 3?", "51").accepted


def test_tags_are_checked_without_a_journal() -> None:
    """What a journal would refuse is refused from the first day on."""
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.0}]})
    with Cascade(policy, models={"m": ScriptedModel("m", ["a"])}) as service:
        with pytest.raises(TypeError, match="tags: 'user'"):
            service.run("q", tags={"user": ["a", "b"]})
        assert service.run("q", tags={"user": "ana"}).text == "a"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_exit_of_the_process_reports_no_open_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of the shared loop are closed; those of a loop that has ended are not reported. Nobody else can close either."""
    monkeypatch.setattr(default_client, "_shared", {})
    monkeypatch.setenv("TEST_KEY", "k")
    path = tmp_path / "p.yaml"
    with WireServer() as server:
        model = f"{{provider: openai, model: m, base_url: '{server.base_url}/v1', api_key_env: TEST_KEY}}"
        path.write_text(f"models: {{m: {model}}}\npolicies: {{default: {{tiers: [{{model: m, accept_at: 0}}]}}}}\n")
        assert cascade.run("hi", policy_file=path).text == "hello"
        assert asyncio.run(cascade.arun("hi", policy_file=path)).text == "hello"
        default_client._close_connections()
        default_client._shared.clear()
        gc.collect()
    assert [record.message for record in caplog.records if "Unclosed" in record.message] == []
