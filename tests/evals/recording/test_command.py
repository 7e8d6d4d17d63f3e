"""The commands show, merge, split and sample, on small recordings."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from evals.recording import Example, read, write
from evals.recording.command import main
from tests.workers import warm_python

ROOT = Path(__file__).parents[3]


def example(id: str, task: str = "t", prompt: str | None = None, **answers: Any) -> Example:
    """An example whose models said these texts, or these whole answers."""
    entries = {m: a if isinstance(a, dict) else {"text": a, "quality": 1.0, "cost_usd": 0.001} for m, a in answers.items()}
    return Example(id, prompt or f"prompt {id}", entries, task=task, reference="r")


def recording(path: Path, *examples: Example) -> str:
    """The file's name."""
    write(path, examples)
    return str(path)


def test_show_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Examples, tasks, and each model's figures over the answers that have them."""
    rows = [
        example("a", m={"text": "x", "quality": 1.0, "cost_usd": 0.002, "latency_s": 0.5, "logprob": -0.1}),
        example(
            "b", "other", m={"text": "x", "quality": None, "verdicts": {"verifier": 0.5}, "samples": [{"text": "y"}] * 3}
        ),
        example("c", m="z", n="z"),
    ]
    path = recording(tmp_path / "r.jsonl", *rows)
    assert main(["show", path, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["examples"], counts["references"], counts["tasks"]) == (3, 3, {"t": 2, "other": 1})
    m = counts["models"]["m"]
    assert (m["answers"], m["graded"], m["quality"], m["priced"], m["samples"]) == (3, 2, 1.0, 2, 3)
    assert m["usd_per_1000"] == pytest.approx(1.5)
    assert m["mean_s"] == 0.5
    assert m["signals"] == {"logprob": 1, "verifier": 1}
    assert counts["models"]["n"]["mean_s"] is None
    assert main(["show", path]) == 0
    assert re.search(r"\nm +3 +2 +1\.000 +1\.5 +0\.50 +3 +logprob 1, verifier 1\n", capsys.readouterr().out)


def test_merge_puts_answers_together(tmp_path: Path) -> None:
    """Each example once, in the order of first appearance, with the answers of all files; what both have must be equal."""
    one = recording(tmp_path / "1.jsonl", example("a", m="x"), example("b", m="y"))
    two = recording(tmp_path / "2.jsonl.gz", example("b", n="z"), example("c", n="w"))
    three = recording(tmp_path / "3.jsonl", example("c", m="v"), example("b", n="z"), example("d", m="u"))
    out = tmp_path / "out.jsonl"
    assert main(["merge", one, two, three, "--out", str(out)]) == 0
    texts = {e.id: {m: a["text"] for m, a in e.answers.items()} for e in read(out)}
    assert texts == {"a": {"m": "x"}, "b": {"m": "y", "n": "z"}, "c": {"n": "w", "m": "v"}, "d": {"m": "u"}}
    assert list(texts) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (example("a", prompt="another", n="x"), "id 'a' has another prompt"),
        (example("a", m="not x"), "the answer of 'm' is another one"),
    ],
)
def test_merge_refuses_what_contradicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: Example, message: str
) -> None:
    """One id with two prompts, or one model with two answers: neither file is changed, and none is written."""
    one, two = recording(tmp_path / "1.jsonl", example("a", m="x")), recording(tmp_path / "2.jsonl", other)
    out = tmp_path / "out.jsonl"
    assert main(["merge", one, two, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_split_keeps_equal_prompts_together(tmp_path: Path) -> None:
    """Every example is in one part, the shares are about what was asked, and the same seed gives the same parts."""
    rows = [example(f"e{i}", prompt=f"p{i // 2}", m="x") for i in range(2000)]
    path = recording(tmp_path / "r.jsonl.gz", *rows)
    assert main(["split", path, "train=0.25", "test=0.75", "--seed", "3"]) == 0
    train, test = (list(read(tmp_path / f"r.{name}.jsonl.gz")) for name in ("train", "test"))
    assert len(train) + len(test) == 2000
    assert abs(len(train) - 500) < 100
    assert not {e.prompt for e in train} & {e.prompt for e in test}
    assert {e.split for e in train} == {"train"}
    again = tmp_path / "r.train.jsonl.gz"
    before = again.read_bytes()
    assert main(["split", path, "train=0.25", "test=0.75", "--seed", "3"]) == 0
    assert again.read_bytes() == before


@pytest.mark.parametrize(
    "parts",
    [
        ["train"], ["a=0.5", "b=0.4"], ["a=0.5", "a=0.5"], ["a=2"], ["a=x"], ["a=nan", "b=1"], ["=1"],
        ["a/b=0.5", "c=0.5"], ["../a=0.5", "c=0.5"], ["a=0.5", "A=0.5"],
    ],
)  # fmt: skip
def test_split_wants_shares_that_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: list[str]) -> None:
    """The error says how a part is written."""
    path = recording(tmp_path / "r.jsonl", example("a", m="x"))
    assert main(["split", path, *parts]) == 2
    assert "split:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [Path(path)]


def test_split_writes_all_parts_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that stays empty, or that cannot be written, leaves the parts of an earlier draw beside each other."""
    path = recording(tmp_path / "r.jsonl", *(example(f"e{i}", m="x") for i in range(20)))
    assert main(["split", path, "train=0.5", "test=0.5"]) == 0
    before = (tmp_path / "r.train.jsonl").read_bytes()
    (tmp_path / "r.test.jsonl").unlink()
    (tmp_path / "r.test.jsonl").mkdir()
    assert main(["split", path, "train=0.5", "test=0.5", "--seed", "1"]) == 2
    assert "r.test.jsonl" in capsys.readouterr().err
    assert main(["split", path, "train=0.999999", "none=0.000001", "--seed", "1"]) == 2
    assert "no example came into the part 'none'; nothing was written" in capsys.readouterr().err
    assert (tmp_path / "r.train.jsonl").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_split_goes_by_what_was_asked(tmp_path: Path) -> None:
    """Equal questions stay together whatever their tasks are and however their messages are written down."""
    rows = []
    for i in range(40):
        prompts: list[Any] = [{"role": "user", "content": f"q{i}"}], [{"content": f"q{i}", "role": "user"}]
        rows += [Example(f"{i}-{j}", prompt, {}, task=f"t{j}") for j, prompt in enumerate(prompts)]
    path = recording(tmp_path / "v1.5.jsonl", *rows)
    assert main(["split", path, "a=0.5", "b=0.5"]) == 0
    ids = [{e.id.partition("-")[0] for e in read(tmp_path / f"v1.5.{name}.jsonl")} for name in ("a", "b")]
    assert ids[0]
    assert ids[1]
    assert not ids[0] & ids[1]


def test_without_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions that no model has answered yet are shown as such."""
    assert main(["show", recording(tmp_path / "r.jsonl", example("a"))]) == 0
    assert "no model has answered" in capsys.readouterr().out


def test_names_do_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and half surrogates in the names of tasks, models and ids are shown as what they are."""
    path = recording(
        tmp_path / "r.jsonl", example("\ud83d", "\x1b[2Jt\ud83d", **{"m\x07ü": {"text": "x", "latency_s": 0.1}})
    )
    other = recording(tmp_path / "s.jsonl", example("\ud83d", "u", **{"m\x07ü": {"text": "x", "latency_s": 0.2}}))
    assert main(["show", path]) == 0
    assert r"tasks: \x1b[2Jt\ud83d 1" in (output := capsys.readouterr().out)
    assert "m\\x07ü" in output
    assert main(["merge", path, other, "--out", str(tmp_path / "o.jsonl"), "--match", "prompt"]) == 0
    assert r": \ud83d of m\x07ü" in capsys.readouterr().out


def test_signals_that_are_not_there_are_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Null verdicts and empty lists of log-probabilities are not counted as signals."""
    answer = {"text": "x", "logprob": None, "token_logprobs": [], "verdicts": {"verifier": None, "schema": 0.0}}
    assert main(["show", recording(tmp_path / "r.jsonl", example("a", m=answer)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"]["m"]["signals"] == {"verifier": 0, "schema": 1}


@pytest.mark.parametrize("command", [["sample", "5"], ["split", "a=0.5", "b=0.5"], ["merge"]])
def test_ids_that_are_not_unique(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Are refused by every command, and nothing is written."""
    path = recording(tmp_path / "r.jsonl", example("a", m="x"), example("b", m="x"), example("a", m="y"))
    name, *more = command
    assert main([name, path, *more, *([] if name == "split" else ["--out", str(tmp_path / "out.jsonl")])]) == 2
    assert "r.jsonl:3: id: 'a' occurs on line 1 too" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [Path(path)]


def test_sample_draws_by_lot(tmp_path: Path) -> None:
    """The requested number, in order; another seed draws others; all where there are fewer."""
    path = recording(tmp_path / "r.jsonl", *(example(f"e{i:03}", m="x") for i in range(300)))
    out = tmp_path / "s.jsonl"
    samples = []
    for seed in ("0", "0", "1"):
        assert main(["sample", path, "20", "--out", str(out), "--seed", seed]) == 0
        samples.append([e.id for e in read(out)])
    assert samples[0] == samples[1] == sorted(samples[0])
    assert samples[0] != samples[2]
    assert len(samples[0]) == 20
    assert main(["sample", path, "1000", "--out", str(out)]) == 0
    assert len(list(read(out))) == 300


def test_a_sample_does_not_replace_what_it_is_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other examples were paid for; a link to the recording is the recording."""
    path = Path(recording(tmp_path / "r.jsonl", *(example(f"e{i}", m="x") for i in range(9))))
    before = path.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(path)
    for out in (path, tmp_path / "link.jsonl"):
        assert main(["sample", str(path), "2", "--out", str(out)]) == 2
        assert "whose other examples would be lost; give another name" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is named, without a traceback."""
    assert main(["show", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    """As the documentation writes it."""
    path = recording(tmp_path / "r.jsonl", example("a", m="x"))
    done = warm_python.run(
        [sys.executable, "-m", "evals.recording", "show", path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ": 1 example," in done.stdout
