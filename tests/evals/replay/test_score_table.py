"""Score columns: what the engine says of every recorded answer, and their cache."""

import asyncio
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.recording import Example, write
from evals.replay.rows.input_rows import ReplayError
from evals.replay.score_table import Cache, load_or_score, score_tier, sha256_of
from tests.evals.replay.synthetic import examples


def one(answer: dict[str, Any], rules: list[dict[str, Any]], **row: Any) -> Any:
    """The column of a single answer."""
    bare = {"text": "a", "quality": 1.0, "cost_usd": 1.0, **answer}
    return asyncio.run(score_tier([Example("r", "q", {"m": bare}, **row)], "m", rules))


def test_stages_hold_what_each_judge_said() -> None:
    """A judge without a score is NaN; answer, cost and quality are given before the first judge and after each."""
    c = one({"logprob": -0.5, "latency_s": 2.0}, [{"use": "rules"}, {"use": "logprob"}])
    assert c.names == ("rules", "logprob")
    assert np.isnan(c.scores[0, 0])
    assert c.scores[0, 1] == pytest.approx(exp(-0.5))
    assert c.cost_usd.tolist() == [[1.0, 1.0, 1.0]]
    assert c.quality.tolist() == [[1.0, 1.0, 1.0]]
    assert c.latency_s.tolist() == [[2.0, 2.0, 2.0]]


def test_a_veto_ends_the_judging() -> None:
    """Later judges are not asked and not paid."""
    samples = [{"text": "b", "quality": 0.0}] * 3
    answer = {"text": "", "quality": 0.0, "samples": samples, "sample_cost_usd": 0.5}
    c = one(answer, [{"use": "rules"}, {"use": "self_consistency", "samples": 3}])
    assert c.vetoed.tolist() == [[False, True, True]]
    assert c.cost_usd.tolist() == [[1.0, 1.0, 1.0]]
    assert np.isnan(c.scores[0, 1])


def test_a_wrong_tool_call_is_vetoed_before_the_first_judge() -> None:
    """It takes no judge's work, and no stage can accept it; also where the recording demanded a call."""
    tools = ({"type": "function", "function": {"name": "f"}},)
    calls = [{"id": "c", "type": "function", "function": {"name": "g", "arguments": "{}"}}]
    c = one({"text": "", "tool_calls": calls}, [{"use": "rules"}], tools=tools)
    assert c.vetoed.tolist() == [[True, True]]
    assert c.cost_usd.tolist() == [[1.0, 1.0]]
    assert not one({}, [{"use": "rules"}], tools=tools).vetoed.any()
    assert one({}, [{"use": "rules"}], tools=tools, raw={"tool_choice": "required"}).vetoed.all()


def test_samples_are_paid_and_may_change_the_answer() -> None:
    """After self-consistency the answer is the majority's, with its own quality."""
    samples = [{"text": "b", "quality": 0.0}] * 3
    c = one({"samples": samples, "sample_cost_usd": 0.5}, [{"use": "self_consistency", "samples": 3}])
    assert c.scores[0, 0] == pytest.approx(0.75)
    assert c.quality.tolist() == [[1.0, 0.0]]
    assert c.cost_usd.tolist() == [[1.0, 2.5]]
    assert c.meaning[0, 0] != c.meaning[0, 1]
    assert c.n_free == 0


def test_an_ungraded_sample_is_an_error() -> None:
    """It names the row, the model and the judge."""
    samples = [{"text": "b", "quality": None}] * 3
    with pytest.raises(ReplayError, match=r"'r', model 'm': judge 'self_consistency' chose a sample that is not graded"):
        one({"samples": samples, "sample_cost_usd": 0.5}, [{"use": "self_consistency", "samples": 3}])


def test_unknown_latency_is_nan() -> None:
    """The engine's own clock does not measure a recorded model."""
    assert np.isnan(one({}, [{"use": "rules"}]).latency_s).all()


def test_same_meaning_has_the_same_hash() -> None:
    """As ``judges.equivalence`` sees it."""
    meaning = [one({"text": text}, []).meaning[0, 0] for text in ("51", "51.", "52")]
    assert meaning[0] == meaning[1] != meaning[2]


def test_a_column_is_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look asks nothing; another recording, other judges or other rows are other columns."""
    rows, rules = examples(8), [{"use": "logprob"}]
    path = tmp_path / "r.jsonl"
    write(path, rows)
    cache = Cache(path, sha256_of(path))
    first = asyncio.run(load_or_score(rows, "cheap", rules, cache))
    assert len(list((tmp_path / ".cascade").glob("*.npz"))) == 1
    monkeypatch.setattr("evals.replay.score_table.score_tier", None)  # must not be called again
    again = asyncio.run(load_or_score(rows, "cheap", rules, cache))
    for name in ("scores", "vetoed", "quality", "cost_usd", "latency_s", "meaning"):
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=name != "vetoed")
    names = {cache.name("cheap", rules, ["a"]), cache.name("cheap", [], ["a"]), cache.name("dear", rules, ["a"]),
             cache.name("cheap", rules, ["b"]), Cache(path, "other").name("cheap", rules, ["a"])}  # fmt: skip
    assert len(names) == 5


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    """A cut-off file is not an error."""
    rows, rules = examples(8), [{"use": "logprob"}]
    path = tmp_path / "r.jsonl"
    write(path, rows)
    cache = Cache(path, sha256_of(path))
    first = asyncio.run(load_or_score(rows, "cheap", rules, cache))
    [file] = (tmp_path / ".cascade").glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(asyncio.run(load_or_score(rows, "cheap", rules, cache)).scores, first.scores)
    assert file.stat().st_size > 100


def test_another_code_of_a_judge_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed source in judges/, in the engine or of somebody's own judge gives another name: no stale column is read."""
    path, rules = tmp_path / "r.jsonl", [{"use": "rules"}]
    write(path, examples(4))
    cache = Cache(path, sha256_of(path))
    names = {cache.name("cheap", rules, ["a"])}
    assert names == {cache.name("cheap", rules, ["a"])}
    read_bytes = Path.read_bytes
    for changed in ("keys.py", "attempt.py", "recorded.py", "score_table.py"):

        def other(self: Path, changed: str = changed) -> bytes:
            return read_bytes(self) + (b"# changed" if self.name == changed else b"")

        monkeypatch.setattr(Path, "read_bytes", other)
        names.add(cache.name("cheap", rules, ["a"]))
    assert len(names) == 5


def test_a_latency_that_was_not_recorded_is_unknown() -> None:
    """Of an answer or of a sample: never the time that looking it up took."""
    samples = [{"text": "b", "quality": 0.0, "latency_s": 1.0}] * 2 + [{"text": "b", "quality": 0.0}]
    rules = [{"use": "rules"}, {"use": "self_consistency", "samples": 3}]
    c = one({"latency_s": 2.0, "samples": samples, "sample_cost_usd": 0.5}, rules)
    assert c.latency_s[0, :2].tolist() == [2.0, 2.0]
    assert np.isnan(c.latency_s[0, 2])
    assert np.isnan(one({"samples": samples[:2], "sample_cost_usd": 0.5}, rules).latency_s).all()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache folder serves instead."""
    blocked = tmp_path / "data"
    blocked.mkdir()
    (blocked / ".cascade").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    path = blocked / "r.jsonl"
    rows = examples(4)
    write(path, rows)
    asyncio.run(load_or_score(rows, "cheap", [{"use": "logprob"}], Cache(path, sha256_of(path))))
    assert len(list((tmp_path / "home" / "cascade-gate").glob("*.npz"))) == 1
