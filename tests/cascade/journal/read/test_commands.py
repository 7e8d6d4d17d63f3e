"""tail and show, and what the commands say when something is wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cascade import Answer
from cascade.cli import main
from cascade.journal.open_store import open_store
from cascade.models.protocol import ModelError
from tests.cascade.journal.cascades import BEST, cascade
from tests.workers import warm_python

ROOT = Path(__file__).parents[4]


async def test_tail_prints_a_line_a_run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The last n, the newest last, each with time, id, tier, reason, cost and tags."""
    async with cascade(url) as c:
        ids = [(await c.arun(f"{i}", tags={"user": f"u{i}"})).run_id for i in range(5)]
    assert main(["journal", "tail", "-n", "3", "--journal", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ids[2:]
    assert lines[-1].startswith("20")
    for part in ("default", "premium (large)", "accepted", "$0.001010", "user=u4"):
        assert part in lines[-1]


def test_tail_follows(url: str) -> None:
    """``-f`` prints new runs, each once, until it is interrupted."""
    with cascade(url) as c:
        first = c.run("before").run_id
        c._journal.flush()  # type: ignore[union-attr]
        tail = warm_python.Popen(
            [sys.executable, "-m", "cascade", "journal", "tail", "-f", "--journal", url],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
            # Whoever runs the tests in the background ignores Ctrl-C, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert tail.stdout is not None
        try:
            seen = [tail.stdout.readline().split()[2]]
            later = [c.run(f"{i}").run_id for i in range(3)]
            seen += [tail.stdout.readline().split()[2] for _ in later]
        finally:
            time.sleep(0.1)
            tail.send_signal(signal.SIGINT)
            rest = tail.communicate(timeout=20)[0]
    assert seen == [first, *later]
    assert rest == ""
    assert tail.returncode == 0


async def test_show_tells_everything(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompt, requests, verdicts, decisions, answer, feedback; control characters cannot steer the terminal."""
    odd = Answer("4\x1b[31m2", mean_logprob=-0.01, finish_reason="stop")
    fault = ModelError("m: HTTP 400: bad", model="m", status=400)
    async with cascade(url, fault, odd, journal_text=True) as c:
        result = await c.arun("What is 6 * 7?", tags={"user": "ana"})
        await c.afeedback(result.run_id, quality=1.0, note="right")
    assert main(["journal", "show", result.run_id, "--journal", url]) == 0
    output = capsys.readouterr().out
    for part in (
        result.run_id, "user=ana", "[user] What is 6 * 7?", "FAULT m: HTTP 400: bad", "logprob", "-> accept", "cost unknown",
        "quality 1", "right", "answer: 4\\x1b[31m2", "accepted",
    ):  # fmt: skip
        assert part in output, part
    assert "\x1b" not in output


async def test_errors_of_the_commands(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and one line that says what to do."""
    async with cascade(url) as c:
        await c.arun("x")
    (tmp_path / "p.yaml").write_text(
        "models: {m: {provider: scripted, answers: [a]}}\npolicies: {default: {tiers: [{model: m}]}}\n"
    )
    (tmp_path / "text.db").write_text("this is not a database " * 100)
    for arguments, message in (
        (["show", "nobody", "--journal", url], "'nobody' is not in the journal"),
        (["tail", "-n", "-1", "--journal", url], "-n must be 0 or more"),
        (["tail", "--journal", f"sqlite:///{tmp_path / 'none.db'}"], "no such journal"),
        (["tail", "--journal", f"sqlite:///{tmp_path / 'text.db'}"], "cannot be opened"),
        (["tail", "--journal", "mysql://host/x"], "must begin with sqlite:/// or postgresql://"),
        (["tail", "--journal", "postgresql://u:hunter2pass@127.0.0.1:1/x?connect_timeout=1"], "no connection"),
        (["tail", "--policy-file", str(tmp_path / "p.yaml")], "has no key 'journal'"),
        (["export", "--journal", url, "--since", "soon", str(tmp_path / "o")], "is not a time"),
        (["export", "--journal", url, str(tmp_path / "no" / "o")], "create it first"),
    ):
        assert main(["journal", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error, error
        assert "hunter2" not in error
        assert error.count("\n") == 1


async def test_the_policy_file_names_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --journal the policy file's is read; by an environment variable, too."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with cascade(url, BEST) as c:
        result = await c.arun("x")
    body = "models: {m: {provider: scripted, answers: [a]}}\npolicies: {default: {tiers: [{model: m}]}}\n"
    (tmp_path / "p.yaml").write_text("journal: {url: 'sqlite:///j.db'}\n" + body)
    (tmp_path / "e.yaml").write_text("journal: {url_env: THE_JOURNAL}\n" + body)
    os.environ["THE_JOURNAL"] = url
    try:
        for name in ("p.yaml", "e.yaml"):
            assert main(["journal", "tail", "--policy-file", str(tmp_path / name)]) == 0
            assert result.run_id in capsys.readouterr().out
    finally:
        del os.environ["THE_JOURNAL"]
    assert main(["journal", "tail", "--policy-file", str(tmp_path / "e.yaml")]) == 2
    assert "set the environment variable THE_JOURNAL" in capsys.readouterr().err


async def test_the_sql_of_the_documentation_runs(url: str) -> None:
    """What a reader copies gives rows, in Postgres with the two expressions that the page names for it."""
    async with cascade(url) as c:
        for i in range(3):
            result = await c.arun(f"{i}", tags={"user": "ana"})
            await c.afeedback(result.run_id, quality=0.1)
    page = (ROOT / "docs" / "reference" / "journal.md").read_text(encoding="utf-8")
    queries = [q for block in re.findall(r"^```sql\n(.*?)^```", page, re.M | re.S) for q in block.split(";") if q.strip()]
    assert len(queries) == 3
    store = open_store(url)
    try:
        for query in queries:
            if url.startswith("postgres"):
                query = query.replace("date(started, 'unixepoch')", "to_timestamp(started)::date")
                query = query.replace("json_extract(tags, '$.user')", "tags ->> 'user'").replace("AS user", 'AS "user"')
                query = query.replace("GROUP BY user", 'GROUP BY "user"')
                query = query.replace("AVG(accepted)", "AVG(accepted::int)")
            assert store.execute(query)
    finally:
        store.close()
