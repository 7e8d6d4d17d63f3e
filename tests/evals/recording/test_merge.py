"""Merging: what two files hold of one example is united, and what contradicts is refused with nothing written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.recording import Example, read, write
from evals.recording.command import main
from evals.recording.join import joined

ONE = Example("a", "q", {"m": {"text": "x", "quality": 1.0, "cost_usd": 0.001, "latency_s": 0.5}})
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def sample(text: str, seconds: float | None = None, quality: float | None = None) -> dict[str, Any]:
    """A further sample."""
    return {"text": text, "quality": quality, **({} if seconds is None else {"latency_s": seconds})}


def of(**answer: Any) -> Example:
    """The example with this answer of the model m."""
    return Example("a", "q", {"m": {"text": "x", "quality": None, **answer}})


def together(one: Example, two: Example) -> tuple[dict[str, Any], list[str]]:
    """The answer of m, and which fields were told to differ."""
    differing: list[str] = []
    merged = joined(one, two, ("1", "2"), lambda what, _: differing.append(what.partition("'")[2].partition("'")[0]))
    return dict(merged.answers["m"]), differing


def merge(tmp_path: Path, one: Example, two: Example) -> tuple[int, Path]:
    """The exit code and the file."""
    write(tmp_path / "1.jsonl", [one])
    write(tmp_path / "2.jsonl", [two])
    out = tmp_path / "out.jsonl"
    return main(["merge", str(tmp_path / "1.jsonl"), str(tmp_path / "2.jsonl"), "--out", str(out)]), out


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (ONE, replace(ONE, system="Be brief."), "another system message"),
        (ONE, replace(ONE, schema={"type": "object"}), "another schema"),
        (ONE, replace(ONE, tools=(TOOL,)), "another tools"),
        (replace(ONE, reference="r"), replace(ONE, reference="s"), "another reference"),
        (replace(ONE, split="train"), replace(ONE, split="test"), "another split"),
        (of(), of(tool_calls=[CALL]), "the answer of 'm' is another one"),
        (of(quality=1.0), of(quality=0.0), "has another quality"),
        (of(verdicts={"{v}": 0.5}), of(verdicts={"{v}": 0.6}), "has another verdict of '{v}'"),
        (
            of(samples=[sample("y", 0.1), sample("z", 0.2)]), of(samples=[sample("y", 0.1), sample("w", 0.2)]),
            "has samples in {file} that are partly the same",
        ),
        (
            of(samples=[sample("y", quality=1.0)]), of(samples=[sample("y", quality=0.0)]), "has another quality",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused(
    one: Example, two: Example, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either way round, with the file, the id and what to do; nothing is written."""
    for pair in ((one, two), (two, one)):
        code, out = merge(tmp_path, *pair)
        error = capsys.readouterr().err
        assert code == 2
        assert error.startswith(f"error: {tmp_path / '2.jsonl'}: id 'a'")
        assert message.replace("{file}", str(tmp_path / "1.jsonl")) in error
        assert not out.exists()


def test_what_only_one_file_knows_is_kept(tmp_path: Path) -> None:
    """Reference, task, split and further fields are taken from the file that has them."""
    full = replace(ONE, reference="r", task="t", split="test", raw={"mine": 1})
    for pair in ((ONE, full), (full, ONE)):
        code, out = merge(tmp_path, *pair)
        assert code == 0
        (merged,) = read(out)
        assert (merged.reference, merged.task, merged.split, merged.raw["mine"]) == ("r", "t", "test", 1)


def test_tasks_are_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another tool's word for one is noted, the first file's kept."""
    code, out = merge(tmp_path, replace(ONE, task="t"), replace(ONE, task="u"))
    assert (code, next(read(out)).task) == (0, "t")
    assert "note: 1, 'task' is another in a second file" in capsys.readouterr().out


def test_the_same_question_under_other_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--match prompt`` joins it; the first file's ids stay, and others are made unique."""
    one = [Example("a", "q", {"m": {"text": "x"}}), Example("b", "r", {"m": {"text": "y"}})]
    two = [Example("b", "q", {"n": {"text": "z"}}), Example("a", "s", {"n": {"text": "w"}})]
    three = [Example("c", "s", {"m": {"text": "v"}}), Example("a", "q", {}, reference="g", system="Be brief.")]
    names = [str(tmp_path / f"{i}.jsonl") for i in range(3)]
    for name, rows in zip(names, (one, two, three), strict=True):
        write(name, rows)
    out = str(tmp_path / "out.jsonl")
    assert main(["merge", *names, "--out", out, "--match", "prompt"]) == 0
    merged = list(read(out))
    assert [(e.prompt, e.system, sorted(e.answers)) for e in merged] == [
        ("q", None, ["m", "n"]), ("r", None, ["m"]), ("s", None, ["m", "n"]), ("q", "Be brief.", []),
    ]  # fmt: skip
    assert [e.id for e in merged[:2]] == ["a", "b"]
    assert len({e.id for e in merged}) == 4
    assert main(["merge", *names, "--out", out]) == 2
    write(names[1], [Example("x", "q", {}), Example("y", "q", {})])
    capsys.readouterr()
    assert main(["merge", *names, "--out", out, "--match", "prompt"]) == 2
    assert "1.jsonl: id 'y' asks what id 'x' asks" in capsys.readouterr().err
    assert list(read(out)) == merged


def test_prompts_without_a_match_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of other prompts is refused by --match prompt; one match in any earlier file is enough."""
    for name, prompts in (("1", "ab"), ("2", "cd"), ("3", "bc"), ("4", "ce")):
        rows = [Example(f"{name}-{p}", p, {f"m{name}": {"text": p, "quality": None}}) for p in prompts]
        write(tmp_path / f"{name}.jsonl", rows)
    files = {name: str(tmp_path / f"{name}.jsonl") for name in "1234"}
    out = tmp_path / "out.jsonl"
    assert main(["merge", files["1"], files["2"], "--match", "prompt", "--out", str(out)]) == 2
    assert f"{files['2']}: none of its 2 prompts is in {files['1']}" in capsys.readouterr().err
    assert not out.exists()
    assert main(["merge", files["1"], files["3"], files["4"], "--match", "prompt", "--out", str(out)]) == 0
    assert [e.prompt for e in read(out)] == ["a", "b", "c", "e"]
    printed = capsys.readouterr().out
    assert f"whose prompt is in no earlier file were added: 1 of 2 in {files['3']}, 1 of 2 in {files['4']}" in printed
    assert main(["merge", files["1"], files["3"], files["2"], "--match", "prompt", "--out", str(out)]) == 0  # c is in 3
    assert main(["merge", files["1"], files["2"], "--out", str(out)]) == 0
    assert len(list(read(out))) == 4


def test_verdicts_are_united() -> None:
    """P(True) of one file and a schema's score of the other, each with its cost."""
    one = of(verdicts={"verifier": 0.7}, verdict_cost_usd={"verifier": 0.001}, verdict_latency_s={"verifier": 0.2})
    two = of(verdicts={"schema": 1.0, "verifier": 0.7}, verdict_cost_usd={"schema": 0.0, "verifier": 0.009})
    merged, differing = together(one, two)
    assert merged["verdicts"] == {"verifier": 0.7, "schema": 1.0}
    assert merged["verdict_cost_usd"] == {"verifier": 0.001, "schema": 0.0}
    assert merged["verdict_latency_s"] == {"verifier": 0.2}
    assert differing == []
    # Where a judge could not tell once, its later score counts, and what that cost; null stays where nobody could tell.
    mute, told_later = (
        of(verdicts={"v": None}, verdict_cost_usd={"v": 0.1}),
        of(verdicts={"v": 0.4}, verdict_cost_usd={"v": 0.2}),
    )
    for pair in ((mute, told_later), (told_later, mute)):
        merged, _ = together(*pair)
        assert (merged["verdicts"], merged["verdict_cost_usd"]) == ({"v": 0.4}, {"v": 0.2})
    assert together(of(), mute)[0]["verdicts"] == together(mute, of())[0]["verdicts"] == {"v": None}


def test_samples_are_united() -> None:
    """Two runs contribute all their samples; one run that continued in the second file contributes each once."""
    early = [sample("y", 0.1), sample("z", 0.2)]
    late = [sample("y", 0.3), sample("y", 0.4), sample("w", 0.5), sample("w", 0.6)]
    merged, _ = together(of(samples=early, sample_cost_usd=0.001), of(samples=late, sample_cost_usd=0.004))
    assert merged["samples"] == early + late
    assert merged["sample_cost_usd"] == pytest.approx(0.003)
    assert together(of(samples=early, sample_cost_usd=0.001), of(samples=late))[0].get("sample_cost_usd") is None
    for pair in ((early, early + late), (early + late, early)):
        assert together(of(samples=pair[0]), of(samples=pair[1]))[0]["samples"] == early + late
    for pair in ((early, []), ([], early)):
        assert together(of(samples=pair[0]), of(samples=pair[1]))[0]["samples"] == early
    graded = [{**one, "quality": 1.0} for one in early]
    for pair in ((early, graded), (graded, early)):
        assert together(of(samples=pair[0]), of(samples=pair[1]))[0]["samples"] == graded


def test_a_grade_goes_with_its_grader() -> None:
    """A quality that one file has not is the other's, and is not called another grader's."""
    tried, graded = of(quality=None, grader="number 1"), of(quality=0.5, grader="text 1")
    for pair in ((tried, graded), (graded, tried)):
        merged, differing = together(*pair)
        assert (merged["quality"], merged["grader"], differing) == (0.5, "text 1", [])


def test_figures_of_one_run_stay_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two measurements the first file's is taken, with a note; costs and tokens of different runs are never combined."""
    one = of(usage={"input_tokens": 5, "output_tokens": 1}, latency_s=0.1, token_logprobs=[-0.1], tokens=["x"])
    two = of(
        usage={"input_tokens": 6, "output_tokens": 1}, cost_usd=0.002, latency_s=0.2, logprob=-0.2, token_logprobs=[-0.2]
    )
    merged, differing = together(one, two)
    assert merged == one.answers["m"]
    assert sorted(differing) == ["cost_usd", "latency_s", "logprob", "token_logprobs", "usage"]
    code, _ = merge(tmp_path, one, two)
    assert code == 0
    assert "note: 1, 'latency_s' is another in a second file; the first one's was kept: a of m" in capsys.readouterr().out
    merged, differing = together(of(logprob=-0.1), of(logprob=-0.1, token_logprobs=[-0.1], tokens=["x"], cost_usd=0.1))
    assert (merged["tokens"], merged["cost_usd"], differing) == (["x"], 0.1, [])


FIELDS = st.fixed_dictionaries(
    {"text": st.just("x")},
    optional={
        "quality": st.none() | st.just(1.0),
        "cost_usd": st.none() | st.just(0.5),
        "usage": st.just({"input_tokens": 1, "output_tokens": 1}),
        "verdicts": st.dictionaries(st.sampled_from("uv"), st.just(0.5), max_size=2),
        "samples": st.lists(st.builds(sample, st.sampled_from("yz")), max_size=2),
        "mine": st.none() | st.just(3),
    },
)


@given(FIELDS, FIELDS)
def test_nothing_is_lost(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Files that agree are merged without loss in either order; merging a file with itself changes nothing."""
    merged, differing = together(Example("a", "q", {"m": one}), Example("a", "q", {"m": two}))
    assert differing == []
    for part in (one, two):
        assert set(part.get("verdicts") or ()) <= set(merged.get("verdicts") or ())
        texts = [s["text"] for s in merged.get("samples") or ()]
        assert all(texts.count(t) >= [s["text"] for s in part.get("samples") or ()].count(t) for t in "yz")
        assert all(merged[k] == v for k, v in part.items() if v is not None and k not in ("verdicts", "samples"))
    again, _ = together(Example("a", "q", {"m": one}), Example("a", "q", {"m": one}))
    assert {k: v for k, v in again.items() if v} == {k: v for k, v in one.items() if v}
