"""A promise is watched by the labels in the journal: one state for all processes, a line and a message at each change."""

import json
import logging
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, ScriptedModel
from cascade.cli import main
from cascade.journal.labels import LabelBook
from cascade.journal.open_store import open_store
from cascade.journal.promises import PromiseBook
from cascade.policy.load import parse
from cascade.promise.states import Promise, PromiseState
from cascade.shadow.promise_monitor import PromiseMonitor, safer_policy
from cascade.shadow.webhook import post
from tests.cascade.shadow.conftest import check_monitors

PROMISE = {"max_loss": 0.05, "delta": 0.1}
SHADOW = {"share": 0.5, "floor": 0.25, "budget_usd_per_day": 1.0, "text": True}


def policy(**promise: Any) -> Policy:
    """Two tiers that promise a loss of at most 0.05."""
    tiers = [
        {"name": "cheap", "model": "small", "accept_at": 0.6, "judges": [{"use": "logprob", "accept_at": 0.9}]},
        {"name": "premium", "model": "large", "accept_at": 0.2, "judges": ["logprob"]},
    ]
    return Policy.model_validate({"tiers": tiers, "shadow": SHADOW, "promise": PROMISE | promise})


def add_labels(url: str, one: Policy, losses: list[float], probability: float = 0.25, begin: int = 0) -> None:
    """Enters labels as ``cascade grade-shadows`` does."""
    book = LabelBook(partial(open_store, url, full=False))
    for i, loss in enumerate(losses, begin):
        run_id = f"{i:032x}"
        assert book.claim(run_id, "default", one.hash, probability)
        book.finish(run_id, loss, "number@1")
    book.close()


def make_monitor(url: str, one: Policy, replaced: dict[str, Policy] | None = None) -> PromiseMonitor:
    """A monitor of the policy; ``replaced`` receives what is put into service."""
    log = {} if replaced is None else replaced
    return PromiseMonitor({"default": one}, PromiseBook(partial(open_store, url, full=False)), log.__setitem__)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """An SQLite journal's URL."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


def test_processes_share_one_state(url: str) -> None:
    """In both databases: each label counts once across processes; another policy has its own state."""
    one, promise = policy(), Promise(**PROMISE)
    first, second = PromiseBook(partial(open_store, url, full=False)), PromiseBook(partial(open_store, url, full=False))
    assert first.update("default", one.hash, promise, 0.25).state is PromiseState.NOT_ENOUGH
    add_labels(url, one, [0.0] * 60)
    half = first.update("default", one.hash, promise, 0.25)
    add_labels(url, one, [0.0] * 60, begin=60)
    whole = second.update("default", one.hash, promise, 0.25)
    assert (half.added, whole.added, whole.tracker.n) == (60, 60, 120)
    assert (half.before, whole.state) == (PromiseState.NOT_ENOUGH, PromiseState.HOLDS)
    assert first.update("default", one.hash, promise, 0.25).added == 0
    assert first.look("default", "another", promise, 0.25).tracker.n == 0
    first.reset("default", one.hash, promise)
    again = second.update("default", one.hash, promise, 0.25)
    assert (again.state, again.tracker.n) == (PromiseState.NOT_ENOUGH, 0)
    first.close()
    second.close()


def test_labels_count_by_their_probability(journal: str) -> None:
    """A loss of a run that was sampled four times as often as another counts a quarter."""
    one = policy()
    add_labels(journal, one, [1.0], probability=1.0)
    add_labels(journal, one, [0.0], probability=0.25, begin=1)
    book = PromiseBook(partial(open_store, journal, full=False))
    assert book.look("default", one.hash, Promise(**PROMISE), 0.25).tracker.mean_loss == pytest.approx(0.25 / 1.25)
    book.close()


def test_every_change_is_a_line_of_the_log(journal: str, caplog: pytest.LogCaptureFixture) -> None:
    """ "kept" is logged as info, "broken" as a warning; without a change nothing is logged."""
    one = policy()
    monitor = make_monitor(journal, one)
    with caplog.at_level(logging.INFO, "cascade.promise"):
        monitor.check()
        assert caplog.records == []
        add_labels(journal, one, [0.0] * 120)
        monitor.check()
        monitor.check()
        add_labels(journal, one, [1.0] * 30, begin=120)
        monitor.check()
    monitor.close()
    assert [(r.levelname, "kept" in r.message) for r in caplog.records] == [("INFO", True), ("WARNING", True)]
    assert "policy default: the promise of a mean loss of at most 0.05 is broken (was: kept)" in caplog.text
    assert "of 150 labels" in caplog.text


@pytest.mark.parametrize("on_broken", ["warn", "escalate_more", "premium"])
def test_a_broken_promise_does_what_the_policy_says(journal: str, on_broken: str) -> None:
    """Nothing, higher thresholds, or premium alone; once."""
    one = policy(on_broken=on_broken)
    replaced: dict[str, Policy] = {}
    monitor = make_monitor(journal, one, replaced)
    add_labels(journal, one, [1.0] * 40)
    monitor.check()
    monitor.check()
    monitor.close()
    if on_broken == "warn":
        assert replaced == {}
        return
    safer = replaced["default"]
    if on_broken == "premium":
        assert [tier.name for tier in safer.tiers] == ["premium"]
    else:
        assert [tier.accept_at for tier in safer.tiers] == [0.8, 0.2]
        assert safer.tiers[0].judges[0].accept_at == 0.95
        assert safer.shadow is not None


def test_premium_alone_answers_once_it_is_broken(journal: str) -> None:
    """A whole Cascade: before, the cheap tier answers; after the labels came in, premium does, in the same process."""
    one = policy(on_broken="premium")
    answer = Answer("42", mean_logprob=-0.01, cost_usd=1e-5)
    models = {"small": ScriptedModel("small", [answer]), "large": ScriptedModel("large", [answer])}
    with Cascade(one, models=models, journal=journal) as service:
        assert service.run("What is 6 * 7?").tier == "cheap"
        add_labels(journal, one, [1.0] * 40)
        check_monitors(service)
        assert service.run("What is 6 * 7?").tier == "premium"
        assert service.run("What is 6 * 7?").reason in ("accepted", "last_tier")


def test_escalating_more_keeps_other_settings() -> None:
    """Limits, judges and models stay; a tier's missing threshold stays missing."""
    one = policy()
    safer = safer_policy(one, "escalate_more")
    assert (safer.max_calls, safer.final, safer.model_names) == (one.max_calls, one.final, one.model_names)
    assert safer.tiers[0].judges[0].reject_below is None
    assert safer.hash != one.hash


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks: answers with the next of ``replies``, and keeps the bodies."""

    replies: list[int]
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        """One message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(json.loads(body))
        self.send_response(self.replies.pop(0) if self.replies else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    """A server's address, with a secret in it, and its handler."""
    handler = type("Handler", (Receiver,), {"replies": [], "bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hooks/SECRET", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_is_sent_again_until_it_is_taken(receiver: tuple[str, type[Receiver]]) -> None:
    """503 and 429 are tried again, 404 is not; the URL never reaches the log."""
    url, handler = receiver
    handler.replies = [503, 429, 200]
    assert post(url, {"policy": "default", "state": "broken"}, pause_s=0.01)
    assert handler.bodies == [{"policy": "default", "state": "broken"}] * 3
    handler.replies, handler.bodies = [404], []
    assert not post(url, {"policy": "default"}, pause_s=0.01)
    assert len(handler.bodies) == 1


def test_an_unreachable_webhook_is_logged_without_its_url(caplog: pytest.LogCaptureFixture) -> None:
    """Such URLs are secrets."""
    assert not post("http://127.0.0.1:9/hooks/SECRET", {"policy": "default"}, pause_s=0.001)
    assert not post("ftp://SECRET", {"policy": "default"})
    assert "webhook" in caplog.text
    assert "SECRET" not in caplog.text


def test_one_process_posts_a_change(
    journal: str, receiver: tuple[str, type[Receiver]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes the one that took the labels into account posts; the other only logs."""
    url, handler = receiver
    monkeypatch.setenv("PROMISE_HOOK", url)
    one = policy(webhook_env="PROMISE_HOOK")
    monitors = [make_monitor(journal, one) for _ in range(2)]
    for monitor in monitors:
        monitor.check()
    add_labels(journal, one, [1.0] * 40)
    for monitor in monitors:
        monitor.check()
        monitor.close()
    for thread in threading.enumerate():
        if thread.name == "cascade webhook":
            thread.join(5)
    (body,) = handler.bodies
    assert (body["event"], body["policy"], body["state"]) == ("promise", "default", "broken")
    assert (body["previous"], body["labels"], body["mean_loss"]) == ("not enough evidence", 40, 1.0)


FILE = """
journal: {{url: "sqlite:///journal.db"}}
models:
  small: {{provider: scripted, answers: ["42"]}}
  large: {{provider: scripted, answers: ["42"]}}
policies:
  default:
    tiers: [{{name: cheap, model: small}}, {{name: premium, model: large}}]
    shadow: {{share: 0.5, budget_usd_per_day: 1}}
    promise: {promise}
"""


def test_the_command_says_it_and_its_exit_code_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 while there is not enough evidence, 1 once broken; a reset begins again."""
    file, url = tmp_path / "policies.yaml", f"sqlite:///{tmp_path / 'journal.db'}"
    file.write_text(FILE.format(promise="{max_loss: 0.05}"), encoding="utf-8")
    open_store(url).close()
    one = parse(file.read_text(encoding="utf-8"), str(file)).policies["default"]
    command = ["promise", "--policy-file", str(file)]
    assert main(command) == 0
    assert "about" in capsys.readouterr().out
    add_labels(url, one, [1.0] * 40)
    assert main(command) == 1
    assert "default: the promise of a mean loss of at most 0.05 is broken" in capsys.readouterr().out
    assert main([*command, "--policy", "default", "--reset"]) == 0
    assert main(command) == 0


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ("{delta: 0.1}", r"policies.yaml:10: policies.default.promise.max_loss: give it"),
        ("{max_loss: 0}", "greater than 0"),
        ("{max_loss: 0.1, on_broken: panic}", "on_broken"),
        ("{max_los: 0.1}", "did you mean 'max_loss'"),
    ],
)
def test_wrong_promises_are_named(promise: str, message: str) -> None:
    """With file, line and key."""
    with pytest.raises(PolicyError, match=message):
        parse(FILE.format(promise=promise))


def test_a_promise_needs_shadow() -> None:
    """Nothing else could show whether it is kept."""
    text = FILE.format(promise="{max_loss: 0.1}").replace("    shadow: {share: 0.5, budget_usd_per_day: 1}\n", "")
    with pytest.raises(PolicyError, match="promise: needs shadow"):
        parse(text)
