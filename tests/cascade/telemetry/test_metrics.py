"""Metrics with the real prometheus_client: figures, labels, several processes, packages that are not installed."""

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from cascade import Answer, Cascade, Policy, RunError, ScriptedModel, Usage
from cascade.models.protocol import ModelError
from cascade.policy.load import parse
from cascade.telemetry import Telemetry
from tests.cascade.telemetry.conftest import Watch
from tests.workers import warm_python

ROOT = Path(__file__).parents[3]
FILE = """
models:
  cheap: {provider: scripted, answers: [x], price: {input_per_mtok: 1, output_per_mtok: 2}}
  dear: {provider: scripted, answers: [x], price: {input_per_mtok: 10, output_per_mtok: 20}}
policies:
  default: {tiers: [{model: cheap, accept_at: 0.9, judges: [rules, logprob]}, {model: dear, accept_at: 0}]}
"""


def run_some(watch: Watch, n: int) -> tuple[list[Any], list[Any]]:
    """n runs of two priced tiers, of which every third is sure at once and every tenth finds no provider."""
    count = iter(range(10**6))

    def cheap(prompt: Any, request: Any) -> Any:
        i = next(count)
        if i % 10 == 9:
            return ModelError("cheap: HTTP 400", model="cheap", status=400)
        return Answer("x", usage=Usage(100 + i, 10), mean_logprob=0.0 if i % 3 == 0 else -3.0)

    def dear(prompt: Any, request: Any) -> Any:
        return Answer("y", usage=Usage(200, 20))

    results: list[Any] = []
    raised: list[Any] = []
    models = {"cheap": ScriptedModel("cheap", cheap), "dear": ScriptedModel("dear", dear)}
    with Cascade(parse(FILE), models=models, telemetry=watch.telemetry()) as c:
        for _ in range(n):
            try:
                results.append(c.run("q"))
            except RunError as error:
                raised.append(error)
    return results, raised


def test_the_figures_are_those_of_the_results(watch: Watch) -> None:
    """Runs, escalations, calls, tokens, money and verdicts add up to what the results say."""
    results, raised = run_some(watch, 40)
    assert not raised
    log = [c for r in results for a in r.attempts for c in a.call_log]
    assert watch.value("cascade_runs_total", policy="default", kind="run") == 40
    for tier, accepted, reason in (("cheap", "true", "accepted"), ("dear", "false", "last_tier")):
        expected = sum(r.tier == tier for r in results)
        assert watch.value("cascade_runs_total", tier=tier, accepted=accepted, reason=reason) == expected
        assert watch.value("cascade_run_confidence_count", tier=tier) == expected
        assert watch.value("cascade_call_seconds_count", model=tier) == sum(c.model == tier for c in log)
        assert watch.value("cascade_call_tokens_total", model=tier, kind="input") == sum(
            c.usage.input_tokens for c in log if c.model == tier and c.usage
        )
    for reason in ("unsure", "provider_failure"):
        expected = sum(a.reason == reason for r in results for a in r.attempts[:-1])
        assert watch.value("cascade_escalations_total", tier="cheap", reason=reason) == expected > 0
    assert watch.value("cascade_calls_total", outcome="400") == 4
    known_costs = [r.cost_usd for r in results if r.cost_usd is not None]
    assert watch.value("cascade_run_cost_usd_total") == pytest.approx(sum(known_costs))
    assert watch.value("cascade_runs_unpriced_total") == len(results) - len(known_costs)
    assert watch.value("cascade_call_cost_usd_total") == pytest.approx(sum(c.cost_usd for c in log if c.cost_usd))
    verdicts = [v for r in results for a in r.attempts for v in a.verdicts]
    assert watch.value("cascade_judge_verdicts_total") == len(verdicts)
    assert watch.value("cascade_judge_verdicts_total", judge="logprob", verdict="score") == sum(
        v.score is not None for v in verdicts
    )


def test_premium_equivalent(watch: Watch) -> None:
    """What the last tier alone would have cost: its own cost where it was asked, else its price on the answer's usage."""
    results, _ = run_some(watch, 30)
    expected = 0.0
    for r in results:
        usage = r.answer.usage
        expected += 200 * 10e-6 + 20 * 20e-6 if r.tier == "dear" else usage.input_tokens * 10e-6 + 10 * 20e-6
    assert watch.value("cascade_run_premium_usd_total", policy="default") == pytest.approx(expected)


def test_no_label_holds_anything_of_a_run(watch: Watch) -> None:
    """Whatever prompts, answers, faults and tags say, the label values are the policy's names and fixed words."""
    faults = [ModelError(f"m: HTTP {status}: {status}", model="m", status=status) for status in range(100, 1000)]
    script: list[Any] = [*faults, *(Answer(f"unique-{i}", finish_reason=f"odd-{i}") for i in range(50))]
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0, "judges": ["rules"]}]})
    with Cascade(policy, models={"m": ScriptedModel("m", script)}, telemetry=watch.telemetry()) as c:
        for i in range(950):
            with suppress(RunError):
                c.run(f"unique-prompt-{i}")
    text = generate_latest(watch.registry).decode()
    assert "unique" not in text
    assert "odd" not in text
    outcomes = set(re.findall(r'outcome="([^"]*)"', text))
    assert len(outcomes) <= 25
    assert "9xx" in outcomes


def test_cascades_share_a_registry(watch: Watch) -> None:
    """Two Telemetry objects on one registry count together; on another one they start anew."""
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0}]})
    for telemetry in (watch.telemetry(), watch.telemetry(), Watch().telemetry()):
        with Cascade(policy, models={"m": ScriptedModel("m", ["x"])}, telemetry=telemetry) as c:
            c.run("q")
    assert watch.value("cascade_runs_total") == 2


def test_the_breakers_state(watch: Watch) -> None:
    """The gauge follows the breaker: closed at first, open after the failures, closed again after a good probe."""
    rule = "breaker: {min_requests: 2, failure_rate: 0.5, cooldown_s: 0.05}, retry: {attempts: 1}"
    model = f"{{provider: scripted, answers: [x], {rule}}}"
    file = parse(f"models: {{m: {model}}}\npolicies: {{default: {{tiers: [{{model: m, accept_at: 0}}]}}}}")
    down = ModelError("m: HTTP 500", model="m", status=500, retryable=True)
    with Cascade(file, models={"m": ScriptedModel("m", ["x", down, "x"])}, telemetry=watch.telemetry()) as c:
        c.run("q")
        assert watch.value("cascade_breaker_state", model="m") == 0
        for _ in range(2):
            with pytest.raises(RunError):
                c.run("q")
        assert watch.value("cascade_breaker_state", model="m") == 2
        assert watch.value("cascade_calls_total", model="m", outcome="500") == 1  # the second was not asked
        time.sleep(0.06)
        assert c.run("q").text == "x"
    assert watch.value("cascade_breaker_state", model="m") == 0


MANY = """
import sys
from cascade import Cascade, Policy, ScriptedModel
from cascade.policy.schema import TelemetrySpec
policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0}]})
spec = TelemetrySpec.model_validate({"metrics": True})
with Cascade(policy, models={"m": ScriptedModel("m", ["x"])}, telemetry=spec) as c:
    for _ in range(int(sys.argv[1])):
        c.run("q")
"""


def test_several_processes_count_together(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR, as under a server with workers, what is exposed adds up all processes."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    running = [warm_python.Popen([sys.executable, "-c", MANY, str(n)], cwd=ROOT, env=env) for n in (3, 5)]
    assert [p.wait(60) for p in running] == [0, 0]
    watch = Watch(registry=CollectorRegistry())
    MultiProcessCollector(watch.registry, str(tmp_path))
    assert watch.value("cascade_runs_total", policy="default") == 8
    assert watch.value("cascade_call_seconds_count", model="m") == 8


@pytest.mark.parametrize(
    ("key", "package", "extra"), [("traces", "opentelemetry", "otel"), ("metrics", "prometheus_client", "metrics")]
)
def test_a_missing_package_says_what_to_install(key: str, package: str, extra: str) -> None:
    """Turned on without its package, the policy is refused with the remedy; turned off, nothing is missed."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import cascade\nfrom cascade.telemetry import Telemetry\n"
        "Telemetry()\n"
        f"try: Telemetry({key}=True)\nexcept cascade.PolicyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"telemetry.{key} needs {package.partition('_')[0]}")
    assert done.stdout.endswith(f": pip install 'cascade-gate[{extra}]'\n")


def test_off_loads_nothing() -> None:
    """A run without telemetry loads neither package nor our own telemetry."""
    code = (
        "import sys, cascade\n"
        "p = cascade.Policy.model_validate({'tiers': [{'model': 'm', 'accept_at': 0}]})\n"
        "cascade.Cascade(p, models={'m': cascade.ScriptedModel('m', ['x'])}).run('q')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('opentelemetry', 'prometheus_client') or 'telemetry' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_telemetry_of_nothing_tells_nothing() -> None:
    """Both off is allowed and silent."""
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0, "judges": ["rules"]}]})
    with Cascade(policy, models={"m": ScriptedModel("m", ["x"])}, telemetry=Telemetry()) as c:
        assert c.run("q").text == "x"
