"""People see two answers as A and B, say which are right, and the journal has it: each run once, texts only where stored."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from cascade.cli import main
from cascade.gateway.auth.key_file import KeyFile
from cascade.journal.open_store import open_store
from cascade.journal.review import case_of, human_labels, next_case
from cascade.journal.store import Filter
from evals.audit.grading.anchors import read_anchors
from tests.cascade.gateway.conftest import Running, Serve
from tests.evals.audit.journals import SPEC, fill


@pytest.fixture
def gateway(serve: Serve, tmp_path: Path) -> Running:
    """A gateway whose journal has 60 runs, half of them shadowed, some of which premium answered otherwise."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    fill(url, np.random.default_rng(0), n=60, now=time.time(), loss=0.5)
    store = open_store(url)
    store.execute("UPDATE cascade_shadows SET agrees = 1 WHERE answer LIKE '%\"a\"%'")
    store.close()
    models = {name: {"provider": "scripted", "answers": ["a"]} for name in ("small", "large")}
    return serve(json.dumps({"journal": {"url": url}, "models": models, "policies": {"default": SPEC}}))


def test_a_review_is_stored_as_feedback_and_exported(
    gateway: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands behind A, the quality that is stored is that of the answer returned; no run is shown twice."""
    seen: dict[str, dict[str, Any]] = {}
    with httpx2.Client(base_url=gateway.url, timeout=20) as client:
        while (answer := client.get("/dashboard/review/next").raise_for_status().json())["case"] is not None:
            case = answer["case"]
            assert case["run_id"] not in seen
            assert answer["waiting"] >= 1
            assert set(case) == {"run_id", "policy", "messages", "a", "b"}
            verdict = {"a": float(case["a"] == "right"), "b": float(case["b"] == "right")}
            done = client.post("/dashboard/review", json={"run_id": case["run_id"], **verdict}).raise_for_status().json()
            seen[case["run_id"]] = {**case, **done}
        assert answer["waiting"] == 0
    assert len(seen) > 3
    assert {case["a"] == "right" for case in seen.values()} == {True, False}  # in random order
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    store = open_store(url)
    records = {record.run_id: record for record in store.read(Filter(graded=True))}
    store.close()
    assert records.keys() == seen.keys()
    for run_id, record in records.items():
        assert record.feedback[-1]["quality"] == seen[run_id]["quality"] == 0.0
    assert main(["journal", "labels", "-", "--journal", url]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["id"] for line in lines} == seen.keys()
    assert all((line["human"], line["premium"]) == (1.0, "right") for line in lines)
    assert all(line["loss"] == 1.0 for line in lines)
    assert main(["journal", "labels", str(tmp_path / "labels.jsonl"), "--journal", url]) == 0
    assert {anchor.id for anchor in read_anchors(str(tmp_path / "labels.jsonl"))} == seen.keys()


def test_runs_that_were_drawn_by_chance_are_marked_as_such(gateway: Running, tmp_path: Path) -> None:
    """Each run that waits may be the next one; the note has its probability, and the export does."""
    with httpx2.Client(base_url=gateway.url, timeout=20) as client:
        assert client.get("/dashboard/review.html", params={"order": "random"}).status_code == 200
        assert client.get("/dashboard/review.html", params={"key": "secret"}).status_code == 400
        cases = [client.get("/dashboard/review/next", params={"order": "random"}).json()["case"] for _ in range(40)]
        assert len({case["run_id"] for case in cases}) > 2
        for case, order in ((cases[0], "random"), (next(c for c in cases if c != cases[0]), "informative")):
            body = {"run_id": case["run_id"], "a": 1.0, "b": 0.5, "order": order, "chance": case["chance"]}
            client.post("/dashboard/review", json=body).raise_for_status()
        refused = client.get("/dashboard/review/next", params={"order": "easy"})
        wrong = client.post("/dashboard/review", json={**body, "order": "random", "chance": 0})
    assert refused.status_code == 400
    assert "order: must be 'informative' or 'random'" in refused.json()["error"]["message"]
    assert "chance: must be a number from" in wrong.json()["error"]["message"]
    assert len({round(case["chance"], 6) for case in cases}) > 2
    assert all(case["chance"] > 0.0 for case in cases)
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    labels = {line["id"]: (line["at_random"], line["chance"]) for line in human_labels(store)}
    store.close()
    assert labels.pop(cases[0]["run_id"]) == (True, pytest.approx(cases[0]["chance"], rel=1e-3))
    assert list(labels.values()) == [(False, None)]


def test_runs_are_drawn_as_often_as_is_said(tmp_path: Path) -> None:
    """A thousand draws of the runs that wait agree with their chances, whose mean is 1; skipped ones never come."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    fill(url, np.random.default_rng(0), n=60, now=time.time(), loss=0.5)
    store = open_store(url)
    store.execute("UPDATE cascade_shadows SET agrees = 1 WHERE answer LIKE '%\"a\"%'")
    skip = next_case(store)[0]
    assert skip is not None
    counts: dict[str, int] = {}
    chances: dict[str, float] = {}
    for _ in range(1_000):
        case, _ = next_case(store, frozenset({skip.run_id}), at_random=True)
        assert case is not None
        assert case.chance is not None
        counts[case.run_id] = counts.get(case.run_id, 0) + 1
        assert chances.setdefault(case.run_id, case.chance) == case.chance
    store.close()
    assert skip.run_id not in counts
    assert np.mean(list(chances.values())) == pytest.approx(1.0)
    for run_id, chance in chances.items():
        expected = 1_000 * chance / len(chances)
        assert abs(counts[run_id] - expected) < 5.0 * np.sqrt(expected)


def test_skipped_runs_come_later(gateway: Running) -> None:
    """The next one is another; skipped ones still wait."""
    with httpx2.Client(base_url=gateway.url, timeout=20) as client:
        first = client.get("/dashboard/review/next").json()
        other = client.get("/dashboard/review/next", params={"skip": first["case"]["run_id"]}).json()
        assert "case" in other, other
    assert other["case"]["run_id"] != first["case"]["run_id"]
    assert other["waiting"] == first["waiting"]


def test_the_least_sure_run_comes_first(gateway: Running, tmp_path: Path) -> None:
    """Before it only those that the grader could not decide."""
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    skipped: set[str] = set()
    doubts = []
    while (case := next_case(store, frozenset(skipped))[0]) is not None:
        skipped.add(case.run_id)
        record = store.find(case.run_id)
        assert record is not None
        doubts.append(abs((record.confidence or 0.0) - 0.5))
    assert doubts == sorted(doubts)
    store.execute("UPDATE cascade_labels SET state = 'undecided' WHERE run_id = ?", (case_id := sorted(skipped)[0],))
    first = next_case(store)[0]
    store.close()
    assert first is not None
    assert first.run_id == case_id


def test_runs_without_text_are_not_shown(gateway: Running, tmp_path: Path) -> None:
    """Where the policy keeps no text there is nothing to look at."""
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    record = next(record for record in store.read(Filter()) if record.shadows)
    assert case_of(record) is not None
    assert case_of(record._replace(prompt=None)) is None
    store.execute("UPDATE cascade_shadows SET answer = NULL")
    assert next_case(store) == (None, 0)
    store.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"run_id": "0" * 32, "a": 1, "b": 0}, 404),
        ({"run_id": "x", "a": 2, "b": 0}, 400),
        ({"run_id": "x", "a": 1}, 400),
        ({"run_id": "", "a": 1, "b": 0}, 400),
    ],
)
def test_wrong_reviews_are_refused(gateway: Running, body: dict[str, Any], status: int) -> None:
    """With the field, and nothing is stored."""
    assert httpx2.post(f"{gateway.url}/dashboard/review", json=body).status_code == status


def test_it_is_behind_the_keys(serve: Serve, tmp_path: Path) -> None:
    """The page holds no data; its data need a key that is allowed for all policies, as texts of all are shown."""
    keys = KeyFile(tmp_path / "keys.db")
    _, some = keys.create("ana", policies=("other",))
    _, every = keys.create("ben")
    gateway = serve(FILE.format(folder=tmp_path), key_store=keys)

    def status(path: str, key: str | None, body: Any = None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        method = "GET" if body is None else "POST"
        return httpx2.request(method, f"{gateway.url}{path}", json=body, headers=headers).status_code

    assert status("/dashboard/review.html", None) == 200
    for key, expected in ((None, 401), (some, 403)):
        assert status("/dashboard/review/next", key) == expected
        assert status("/dashboard/review", key, {"run_id": "x", "a": 1, "b": 0}) == expected
    assert status("/dashboard/review/next", every) == 200


FILE = """
journal: {{url: "sqlite:///{folder}/journal.db"}}
models:
  small: {{provider: scripted, answers: ["a"]}}
policies:
  default: {{tiers: [{{name: cheap, model: small}}]}}
  other: {{tiers: [{{name: cheap, model: small}}]}}
"""
