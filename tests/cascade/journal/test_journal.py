"""A record of every run, in both databases."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cascade import CascadeError, JournalError, ProviderError, RunError, UnsureError
from cascade.journal import writer, writer_connection
from cascade.journal.journal import Journal
from cascade.journal.open_store import open_store
from cascade.models.protocol import ModelError
from cascade.policy.journal_config import JournalSpec
from judges import Verdict, judge
from tests.cascade.journal.cascades import BEST, POOR, SURE, cascade, everything, policies, records
from tests.workers import warm_python


def spec(url: str, **settings: Any) -> JournalSpec:
    """The settings of a journal."""
    return JournalSpec.model_validate({"url": url, **settings})


@pytest.mark.parametrize("durability", ["full", "batched"])
async def test_a_run_leaves_one_record(url: str, durability: str) -> None:
    """The record contains the run's attempts, calls, verdicts, decisions, cost and tags."""
    async with cascade(spec(url, durability=durability)) as c:
        result = await c.arun("What is 6 * 7?", tags={"user": "ana", "n": 3, "share": 0.5, "beta": True})
        if durability == "full":
            assert [r.run_id for r in records(url)] == [result.run_id]
    (r,) = records(url)
    assert (r.run_id, r.kind, r.policy, r.accepted, r.reason) == (result.run_id, "run", "default", True, "accepted")
    assert (r.tier, r.model, r.confidence, r.cost_usd, r.error) == ("premium", "large", result.confidence, 1.01e-3, None)
    assert r.tags == {"user": "ana", "n": 3, "share": 0.5, "beta": True}
    assert r.started <= r.ended <= time.time() < r.started + 60
    assert r.premium_usd == 1e-3
    assert [a["tier"] for a in r.attempts] == ["cheap", "premium"]
    assert [v["judge"] for v in r.attempts[0]["verdicts"]] == ["rules", "logprob"]
    assert [d["action"] for d in r.attempts[0]["decisions"]] == ["judge", "escalate"]
    (call,) = r.attempts[0]["call_log"]
    assert (call["model"], call["purpose"], call["n"], call["cost_usd"]) == ("small", "answer", 1, 1e-5)
    assert call["usage"] == {"input_tokens": 100, "output_tokens": 10}
    assert r.prompt is None
    assert json.loads(policies(url)[r.policy_hash])["tiers"][0]["accept_at"] == 0.7


async def test_a_run_that_raises_leaves_a_record(url: str) -> None:
    """The error carries the id of its record."""
    down = ModelError("m: HTTP 400", model="m", status=400)
    async with cascade(spec(url, durability="full"), down, down) as c:
        with pytest.raises(ProviderError) as caught:
            await c.arun("hi")
    (r,) = records(url)
    assert (r.run_id, r.error, r.reason, r.accepted, r.tier) == (
        caught.value.run_id, "ProviderError", "provider_failure", False, None,
    )  # fmt: skip
    assert [a["call_log"][0]["fault"] for a in r.attempts] == ["m: HTTP 400"] * 2
    assert r.attempts[0]["call_log"][0]["status"] == 400


async def test_an_unsure_run_that_raises_keeps_its_best_answer(url: str) -> None:
    """The error of ``when_unsure: raise`` has a result, which is in the record."""
    async with cascade(spec(url), POOR, POOR, when_unsure="raise") as c:
        with pytest.raises(UnsureError) as caught:
            await c.arun("hi")
    (r,) = records(url)
    assert r.run_id == caught.value.run_id == caught.value.result.run_id
    assert (r.error, r.reason, r.tier) == ("UnsureError", "unsure", "premium")


async def test_a_cancelled_run_leaves_a_record(url: str) -> None:
    """Cancelling is recorded as such, with what was done till then, and does not wait for the disk."""
    async with cascade(spec(url, durability="full"), delay_s=30.0) as c:
        task = asyncio.create_task(c.arun("hi"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (r,) = records(url)
    assert (r.error, r.reason, r.accepted) == ("CancelledError", "cancelled", False)
    assert [a["reason"] for a in r.attempts] == ["cancelled"]
    assert r.attempts[0]["call_log"][0]["fault"] == "cancelled"


async def test_a_judge_that_raises_leaves_a_record(url: str) -> None:
    """Whatever a judge raises is named by its class alone: its text may quote the prompt."""

    @judge("broken")
    def broken(prompt: Any, answer: Any) -> float:
        raise KeyError(f"secret of {prompt.text}")

    async with cascade(spec(url), SURE, BEST, "broken", on_judge_error="raise") as c:
        with pytest.raises(KeyError):
            await c.arun("my diary")
    (r,) = records(url)
    assert (r.error, r.reason, r.attempts[0]["reason"]) == ("KeyError", "raised", "raised")
    assert "diary" not in everything(url)


async def test_a_gate_leaves_a_record(url: str) -> None:
    """An answer from elsewhere is judged and recorded, as a gate."""
    async with cascade(spec(url)) as c:
        result = await c.agate("What is 6 * 7?", SURE, tags={"from": "cache"})
    (r,) = records(url)
    assert (r.run_id, r.kind, r.accepted, r.premium_usd) == (result.run_id, "gate", True, None)
    assert r.tags == {"from": "cache"}


async def test_a_streamed_run_leaves_a_record(url: str) -> None:
    """To its end, or to where its reader left it."""
    async with cascade(spec(url), delay_s=0.02) as c:
        async for event in c.astream("whole", tags={"n": 1}):
            last = event
        left = c.astream("left", tags={"n": 2})
        await anext(left)
        await left.aclose()
    whole, half = sorted(records(url), key=lambda r: str(r.tags))
    assert (whole.run_id, whole.reason) == (last.result.run_id, "accepted")  # type: ignore[union-attr]
    assert (half.reason, half.error, half.accepted) == ("cancelled", "CancelledError", False)


async def test_feedback_attaches_a_later_truth(url: str) -> None:
    """Several are kept, the last one last; the record may still wait to be written when feedback comes."""
    async with cascade(spec(url)) as c:
        first = await c.arun("a")
        await c.afeedback(first.run_id, quality=0.0)
        await c.afeedback(first.run_id, quality=1, note="the user was right after all")
        await c.arun("b")
        with pytest.raises(JournalError, match="not in the journal"):
            await c.afeedback("0" * 32, quality=1.0)
        for wrong in (1.5, -0.1, float("nan"), "good"):
            with pytest.raises(ValueError, match="quality"):
                await c.afeedback(first.run_id, quality=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="note"):
            await c.afeedback(first.run_id, quality=1, note="\ud800")
    a, b = records(url)
    assert [f["quality"] for f in a.feedback] == [0.0, 1.0]
    assert a.feedback[1]["note"] == "the user was right after all"
    assert b.feedback == ()
    assert [r.run_id for r in records(url, graded=True)] == [first.run_id]


def test_feedback_without_a_journal_says_what_to_do() -> None:
    """The remedy is the policy file's key."""
    with cascade(None) as c, pytest.raises(JournalError, match=r"journal: \{url:"):
        c.feedback("x", quality=1.0)


async def test_concurrent_runs_share_commits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`full` commits many runs at once, and each only once."""
    written: list[int] = []
    original = writer_connection.Session.write

    def counted(self: writer_connection.Session, policies: Any, rows: Any) -> Any:
        written.append(len(rows))
        return original(self, policies, rows)

    monkeypatch.setattr(writer_connection.Session, "write", counted)
    async with cascade(spec(url, durability="full")) as c:
        results = await asyncio.gather(*(c.arun(f"{i}") for i in range(200)))
    assert sorted(r.run_id for r in records(url)) == sorted(r.run_id for r in results)
    assert sum(written) == 200
    assert len(written) < 50


def test_many_threads_and_loops_share_a_journal(url: str) -> None:
    """Synchronous runs from many threads, and event loops of their own, all leave their records."""
    ids: list[str] = []
    with cascade(spec(url, durability="full")) as c:

        async def several() -> None:
            for r in await asyncio.gather(*(c.arun(f"{i}") for i in range(10))):
                ids.append(r.run_id)

        threads = [threading.Thread(target=lambda: ids.append(c.run("x").run_id)) for _ in range(8)]
        threads += [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(ids) == 48
    assert sorted(r.run_id for r in records(url)) == sorted(ids)


async def test_batched_follows_by_itself(url: str) -> None:
    """A lone run's record is there without anybody waiting for it or closing anything."""
    async with cascade(spec(url)) as c:
        await c.arun("first")  # its thread and connection begin here
        c._journal.flush()  # type: ignore[union-attr]
        lags = []
        for i in range(5):
            await c.arun(f"{i}")
            ended = time.monotonic()
            while len(await asyncio.to_thread(records, url)) < i + 2:
                await asyncio.sleep(0.005)
            lags.append(time.monotonic() - ended)
    assert sorted(lags)[2] < 5, lags


async def test_a_full_queue_waits_and_loses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the database stuck the runs wait once the queue is full; when it moves again every record is there."""
    monkeypatch.setattr(writer, "CAPACITY", 5)
    free = threading.Event()
    original = writer_connection.Session.write

    def stuck(self: writer_connection.Session, policies: Any, rows: Any) -> Any:
        free.wait(20)
        return original(self, policies, rows)

    monkeypatch.setattr(writer_connection.Session, "write", stuck)
    async with cascade(spec(url)) as c:
        tasks = [asyncio.create_task(c.arun(f"{i}")) for i in range(30)]
        await asyncio.sleep(0.4)
        done = sum(t.done() for t in tasks)
        assert 0 < done < 30
        free.set()
        results = await asyncio.gather(*tasks)
    assert sorted(r.run_id for r in records(url)) == sorted(r.run_id for r in results)


async def test_an_outage_is_waited_out(url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A database that cannot be reached for a while costs no record, and says so once."""
    monkeypatch.setattr(writer, "_RETRY_S", 0.02)
    down = [True]
    original = writer_connection.Session._reach

    def reach(self: writer_connection.Session) -> Any:
        if down[0]:
            raise JournalError("no connection")
        return original(self)

    monkeypatch.setattr(writer_connection.Session, "_reach", reach)
    async with cascade(spec(url)) as c:
        for i in range(3):
            await c.arun(f"{i}")
        await asyncio.sleep(0.4)
        assert records(url) == []
        down[0] = False
    assert len(records(url)) == 3
    assert [r.getMessage().split(" (")[0] for r in caplog.records] == [
        "the journal cannot be written, records wait",
        "the journal can be written again",
    ]


async def test_full_says_when_the_record_was_not_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer was paid for: the error carries it."""
    monkeypatch.setattr(writer, "FULL_WAIT_S", 0.1)
    monkeypatch.setattr(writer, "CLOSE_S", 0.1)

    def reach(self: writer_connection.Session) -> Any:
        raise JournalError("no connection")

    monkeypatch.setattr(writer_connection.Session, "_reach", reach)
    c = cascade(spec(url, durability="full"))
    with pytest.raises(JournalError, match="was not committed") as caught:
        await c.arun("hi")
    assert caught.value.result is not None
    assert caught.value.result.text == "42"
    with pytest.raises(JournalError, match="1 record could not be written"):
        c._journal._writer.close(0.1)  # type: ignore[union-attr]


async def test_a_refused_row_does_not_hold_up_the_others(url: str) -> None:
    """One record that the database will not take is named in the log; the rest of its batch is kept."""
    store: Any = open_store(url)
    try:
        await _refused(url, store)
    finally:
        store.close()


async def _refused(url: str, store: Any) -> None:
    async with cascade(spec(url)) as c:
        await c.arun("a")
        c._journal.flush()  # type: ignore[union-attr]
        (record,) = records(url)
        row = list(store.execute("SELECT * FROM cascade_runs")[0])[1:]
        good, bad = ["1" * 32, *row[1:]], ["2" * 32, *row[1:]]
        bad[5] = None  # policy_hash is NOT NULL
        s = writer_connection.Session(lambda: open_store(url), writer_connection.Retention())
        try:
            assert s.write({}, [tuple(_texts(bad)), tuple(_texts(good))]) == {"2" * 32}
        finally:
            s.close()
    assert {r.run_id for r in records(url)} == {record.run_id, "1" * 32}


def _texts(row: list[Any]) -> list[Any]:
    return [json.dumps(v) if isinstance(v, dict) else v for v in row]


async def test_the_same_row_twice_is_one_record(url: str) -> None:
    """A commit whose answer was lost is tried again, which must not double the record."""
    async with cascade(spec(url)) as c:
        run = c._journal.begin("run", "default", c._runtime.compile("default"), _prompt())  # type: ignore[union-attr]
        run.end(await c.arun("a"))
    s = writer_connection.Session(lambda: open_store(url), writer_connection.Retention())
    try:
        for _ in range(2):
            assert s.write(*s.rows([run])) == frozenset()
    finally:
        s.close()
    assert [r.run_id for r in records(url)].count(run.run_id) == 1
    assert len(records(url)) == 2


def _prompt() -> Any:
    from judges import Prompt

    return Prompt.of("a")


async def test_what_a_judge_says_may_be_anything(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Half surrogates, NUL, NaN, objects without a text: the run is recorded all the same."""

    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    details = iter([{"a": "\ud800", "b": float("nan"), "c": b"\xff", "d": {1: "\0"}}, {"e": Rude()}])

    @judge("odd")
    def odd(prompt: Any, answer: Any) -> Verdict:
        return Verdict("odd", 0.9, reason="\ud800\0", details=next(details))

    async with cascade(spec(url), SURE, BEST, "odd", journal_text=True) as c:
        await c.arun("whole \ud800\0")
        await c.arun("bare")
    whole, bare = records(url)
    assert whole.accepted
    assert whole.attempts[0]["verdicts"][0]["details"]["b"] is None
    assert bare.accepted
    assert bare.attempts == []
    assert "could not be made whole (RuntimeError)" in caplog.text


async def test_a_journal_of_a_newer_version_is_refused(url: str) -> None:
    """It says which versions and what to do, for writers and for readers."""
    store: Any = open_store(url)
    store.execute("UPDATE cascade_journal SET version = 99")
    store.close()
    for create in (True, False):
        with pytest.raises(JournalError, match="version 99, this cascade reads up to 1; install a newer"):
            open_store(url, create=create)
    with pytest.raises(JournalError, match="version 99"):
        cascade(url)


def test_several_processes_may_start_at_once(url: str) -> None:
    """The tables are made once, and every process's records are there."""
    code = (
        "import sys; from tests.cascade.journal.cascades import cascade\n"
        "with cascade(sys.argv[1]) as c:\n"
        "    for i in range(25): c.run(f'{i}', tags={'process': sys.argv[2]})"
    )
    root = Path(__file__).parents[3]
    started = [warm_python.Popen([sys.executable, "-c", code, url, str(i)], cwd=root) for i in range(4)]
    assert [p.wait(60) for p in started] == [0] * 4
    processes = [r.tags["process"] for r in records(url)]
    assert {p: processes.count(p) for p in set(processes)} == dict.fromkeys("0123", 25)


def test_a_forked_child_writes_its_own(url: str) -> None:
    """A service that forks after its first run: both go on, and nothing is written twice."""
    code = (
        "import os, sys; from tests.cascade.journal.cascades import cascade\n"
        "c = cascade(sys.argv[1]); import asyncio\n"
        "asyncio.run(c.arun('before'))\n"
        "pid = os.fork()\n"
        "asyncio.run(c.arun('child' if pid == 0 else 'parent', tags={'pid': 'child' if pid == 0 else 'parent'}))\n"
        "asyncio.run(c.aclose())\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0"
    )
    done = warm_python.run(
        [sys.executable, "-c", code, url], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(str(r.tags.get("pid")) for r in records(url)) == ["None", "child", "parent"]


def test_records_are_flushed_at_exit(url: str) -> None:
    """A process that ends without closing anything has still written its last runs."""
    code = "import sys; from tests.cascade.journal.cascades import cascade\nc = cascade(sys.argv[1])\nc.run('x')"
    done = warm_python.run(
        [sys.executable, "-c", code, url], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(records(url)) == 1


async def test_old_records_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``keep_days`` deletes what is older, with its feedback, in batches, and nothing else."""
    monkeypatch.setattr(writer_connection, "_PRUNED_AT_ONCE", 7)
    async with cascade(url) as c:
        old = [(await c.arun(f"{i}")).run_id for i in range(40)]
        await c.afeedback(old[0], quality=1.0)
        new = (await c.arun("new")).run_id
        await c.afeedback(new, quality=0.0)
    store: Any = open_store(url)
    store.execute("UPDATE cascade_runs SET started = started - 200000 WHERE run_id <> ?", (new,))
    store.close()
    async with cascade(spec(url, keep_days=2)) as c:
        newest = (await c.arun("newest")).run_id
        for _ in range(200):
            if len(await asyncio.to_thread(records, url)) == 2:
                break
            await asyncio.sleep(0.02)
    assert [r.run_id for r in records(url)] == [new, newest]
    assert "1.0" not in str([r.feedback for r in records(url)])
    store = open_store(url)
    assert [row[0] for row in store.execute("SELECT run_id FROM cascade_feedback")] == [new]
    store.close()


async def test_an_sqlite_file_stays_bounded(tmp_path: Path) -> None:
    """``max_mb``: the oldest go, the newest stay, and the file gives its pages back."""
    url, file = f"sqlite:///{tmp_path / 'j.db'}", tmp_path / "j.db"
    async with cascade(url) as c:
        for i in range(2500):
            await c.arun(f"{i}")
    grown = file.stat().st_size
    assert grown > 2_500_000
    async with cascade(spec(url, max_mb=1)) as c:
        last = ""
        for i in range(600):
            last = (await c.arun(f"{i}")).run_id
            if i % 100 == 0:
                c._journal.flush()  # type: ignore[union-attr]
    store: Any = open_store(url)
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = store.megabytes()
    store.close()
    assert size <= 1.0
    assert file.stat().st_size <= grown / 2
    assert records(url)[-1].run_id == last


def test_no_journal_no_module() -> None:
    """Without a journal its writer and database are never loaded."""
    code = (
        "import sys, cascade; assert cascade.run('What is the capital of France? Reply with the answer only.').text\n"
        "print(*(m for m in sys.modules if m.startswith(('sqlite3', 'psycopg', 'cascade.journal'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


async def test_wrong_tags_are_refused(url: str) -> None:
    """Too many, too long, of another type, or what no database holds; before anything is asked or paid."""
    wrong: list[tuple[dict[Any, Any], str]] = [
        ({f"t{i}": 1 for i in range(17)}, "at most 16"),
        ({"a": None}, "a tag is a text"),
        ({"a": [1]}, "a tag is a text"),
        ({1: "a"}, "a tag is a text"),
        ({"": 1}, "a name has"),
        ({"x" * 65: 1}, "a name has"),
        ({"a": "x" * 257}, "at most 256"),
        ({"a": "\0"}, "printable"),
        ({"a": "\ud800"}, "printable"),
        ({"a": float("inf")}, "finite"),
        ({"a": 2**63}, "64 bits"),
    ]
    async with cascade(url) as c:
        for tags, message in wrong:
            with pytest.raises((TypeError, ValueError), match=message):
                await c.arun("hi", tags=tags)
        model = c._runtime.compile("default").handles["small"].model
        assert model.calls == []  # type: ignore[attr-defined]
        await c.arun("hi", tags={"user": "Zoë 東京", "empty": ""})
    (r,) = records(url)
    assert r.tags == {"user": "Zoë 東京", "empty": ""}


async def test_a_given_journal_is_left_open(url: str) -> None:
    """Two cascades may share a journal; the caller that opened it closes it."""
    shared = Journal(url)
    try:
        for _ in range(2):
            async with cascade(shared) as c:
                await c.arun("x")
    finally:
        shared.close()
    assert len(records(url)) == 2
    with pytest.raises(JournalError, match="closed"):
        await cascade(shared).arun("x")


def test_off_opens_nothing(tmp_path: Path) -> None:
    """With ``durability: off`` the key ``journal`` may stay in the file, and no database is created."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    with cascade(spec(url, durability="off")) as c:
        c.run("x")
    assert not (tmp_path / "j.db").exists()


def test_the_policy_files_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is taken from the policy file's folder; module-level feedback finds the same journal."""
    import cascade as package

    (tmp_path / "p.yaml").write_text(
        "journal: {url: 'sqlite:///runs.db', durability: full}\n"
        "models: {m: {provider: scripted, answers: [hello]}}\n"
        "policies: {default: {tiers: [{model: m, accept_at: 0.5, judges: [rules]}]}}\n"
    )
    monkeypatch.chdir("/")
    result = package.run("hi", policy_file=tmp_path / "p.yaml", tags={"a": 1})
    package.feedback(result.run_id, quality=0.75, policy_file=tmp_path / "p.yaml")
    asyncio.run(package.afeedback(result.run_id, quality=0.25, policy_file=tmp_path / "p.yaml"))
    (r,) = records(f"sqlite:///{tmp_path / 'runs.db'}")
    assert [f["quality"] for f in r.feedback] == [0.75, 0.25]


async def test_the_writer_outlives_its_own_faults(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error loses one batch, which is logged; later records are stored."""
    original, faults = writer_connection.Session.rows, iter([True])

    def rows(self: Any, runs: Any) -> Any:
        if next(faults, False):
            raise ZeroDivisionError
        return original(self, runs)

    monkeypatch.setattr(writer_connection.Session, "rows", rows)
    async with cascade(url) as c:
        await c.arun("lost")
        c._journal.flush()  # type: ignore[union-attr]
        result = await c.arun("kept")
    assert [r.run_id for r in records(url)] == [result.run_id]
    assert "lost up to 1 records (ZeroDivisionError)" in caplog.text


def test_errors_are_of_the_tree() -> None:
    """JournalError is a CascadeError, and not a RunError: the run itself did not fail."""
    assert issubclass(JournalError, CascadeError)
    assert not issubclass(JournalError, RunError)
