"""What people said of runs: beside a biased grader, weighted for all runs, and only where runs were shown at random."""

import json
from pathlib import Path

import numpy as np
import pytest

from cascade.journal.open_store import open_store
from cascade.journal.review import Review, note_of, review_of
from cascade.promise.review_sampling import ReviewCandidate, draw_sizes
from evals.audit.audit import main
from evals.audit.reviews import ReviewedRuns
from tests.evals.audit.test_audit import audit_of, setup

SEEDS = 24


def runs_of(rng: np.random.Generator, *, n: int = 2_000, labels: int = 200, hard: int = 0) -> tuple[ReviewedRuns, float]:
    """Runs of which a quarter differs, and the true mean loss; the grader finds losses where there are none."""
    differs = rng.random(n) < 0.25
    weight = np.where(rng.random(n) < 0.5, 10.0, 40.0)
    loss = np.where(differs & (rng.random(n) < np.where(weight > 20.0, 0.1, 0.4)), 1.0, 0.0)
    verdict = np.where(rng.random(n) < 0.15, 1.0, loss)
    order = rng.permutation(np.flatnonzero(differs))
    hardest = set(np.flatnonzero(differs & (weight > 20.0))[:hard].tolist())
    at_random = set([i for i in order.tolist() if i not in hardest][:labels])
    rows = ReviewedRuns(all_weight=float(weight.sum()))
    for i in np.flatnonzero(differs).tolist():
        rows.weights.append(float(weight[i]))
        rows.verdicts.append(float(verdict[i]))
        is_labelled = i in hardest or i in at_random
        rows.confidences.append(float("nan"))
        chance = 1.0 if i in at_random else None
        rows.reviews.append(Review(returned=1.0 - loss[i], premium=1.0, chance=chance) if is_labelled else None)
        rows.places.append(i)
    return rows, (10.0 * 0.25 * 0.4 + 40.0 * 0.25 * 0.1) / 50.0


@pytest.mark.parametrize("hard", [0, 60])
def test_the_loss_by_people_is_of_all_runs(hard: int) -> None:
    """Also where people first looked at hard runs of one kind: intervals cover, and the grader's bias is stated."""
    outcomes = []
    for seed in range(60):
        rows, truth = runs_of(np.random.default_rng(seed), hard=hard)
        estimate = rows.estimate()
        assert estimate is not None
        outcomes.append((estimate.mean - truth, estimate.lower <= truth <= estimate.upper, estimate.bias))
    errors, covered, biases = np.array(outcomes).T
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(60)
    assert covered.mean() >= 0.85
    assert biases.mean() > 0.01


def draw_runs(rng: np.random.Generator, *, n: int, labels: int, grows: bool) -> tuple[ReviewedRuns, float]:
    """Runs that the queue drew by chance, and the true mean loss; while it does, the others arrive where it ``grows``."""
    weight = np.where(rng.random(n) < 0.5, 10.0, 40.0)
    confidence = rng.beta(5.0, 2.0, size=n)
    loss = np.where(rng.random(n) < 0.8 * (1.0 - confidence), 1.0, np.where(rng.random(n) < 0.1, -1.0, 0.0))
    verdict = np.clip(np.round(loss + rng.normal(0.3, 0.5, size=n)), -1.0, 1.0)
    candidates = [ReviewCandidate(*row) for row in zip(verdict.tolist(), confidence.tolist(), weight.tolist(), strict=True)]
    rows = ReviewedRuns(all_weight=float(weight.sum()), verdicts=verdict.tolist(), weights=weight.tolist())
    rows.confidences, rows.reviews, rows.places = confidence.tolist(), [None] * n, [0] * n
    order: list[int] = []
    for count in range(labels):
        arrived = n if not grows else int(n * (0.5 + 0.5 * count / labels))
        left = [i for i in range(arrived) if rows.reviews[i] is None]
        if count % 25 == 0:
            sizes = np.array(draw_sizes(candidates, [(candidates[i], float(loss[i])) for i in order]))
        p = sizes[left]
        place = int(rng.choice(len(left), p=p / p.sum()))
        i = left[place]
        rows.reviews[i] = Review(returned=0.5, premium=0.5 + 0.5 * loss[i], chance=float(p[place] / p.mean()))
        rows.places[i] = count + 1
        order.append(i)
    return rows, float(np.average(loss, weights=weight))


@pytest.mark.parametrize(("n", "labels", "grows"), [(400, 100, False), (120, 110, False), (300, 75, True)])
def test_runs_that_were_drawn_more_often_count_less(n: int, labels: int, grows: bool) -> None:
    """Drawn by chance, the uncertain ones more often: no bias, also where nearly all are labelled, or more runs arrive."""
    errors, covered = [], []
    for seed in range(SEEDS):
        rows, truth = draw_runs(np.random.default_rng(seed), n=n, labels=labels, grows=grows)
        estimate = rows.estimate()
        assert estimate is not None
        errors.append(estimate.mean - truth / 2.0)
        covered.append(estimate.lower <= truth / 2.0 <= estimate.upper)
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(SEEDS)
    assert np.mean(covered) >= 0.93 - 3.0 * np.sqrt(0.93 * 0.07 / SEEDS)


def test_runs_that_were_shown_because_they_are_hard_prove_nothing() -> None:
    """Without enough runs shown at random there is no estimate."""
    rows, _ = runs_of(np.random.default_rng(0), labels=19, hard=60)
    assert rows.estimate() is None


@pytest.mark.parametrize("chance", [None, 1.0, 0.2, 2.345, 1e-4, 1234.0])
def test_notes_are_read_as_they_were_written(chance: float | None) -> None:
    """The qualities, and how the run was chosen; other notes are no review."""
    review = Review(returned=0.5, premium=1.0, chance=chance)
    assert review_of(note_of(review)) == review
    assert review_of("the customer complained") is None
    assert review_of(None) is None


def test_the_audit_states_the_loss_by_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reviews in the journal are read, the later one of a run counts; page, text and JSON state the interval."""
    file = setup(tmp_path, n=600, loss=0.2)
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    rows = store.execute("SELECT run_id, loss FROM cascade_labels WHERE state = 'done' ORDER BY run_id")
    for run_id, loss in rows[:100]:
        for returned in (0.5, 1.0 - loss):
            note = note_of(Review(returned=returned, premium=1.0, chance=1.0))
            store.execute(
                "INSERT INTO cascade_feedback (run_id, quality, note, at) VALUES (?, ?, ?, 0.0)", (run_id, returned, note)
            )
    store.close()
    main(["--policy-file", str(file), "--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")])
    quality = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["quality"]["default"]
    people = quality["loss_by_people"]
    truth = sum(loss for _, loss in rows) / len(rows)
    assert people["labels"] == 100
    assert people["verdicts"] == quality["labels"] == len(rows)
    assert people["lower"] < truth < people["upper"]
    # The grader is people's equal here, so its verdicts on the other runs tell almost everything.
    assert people["mean"] == pytest.approx(truth, abs=0.01)
    assert people["narrower"] < 0.8
    assert abs(people["bias"]) < 0.01
    assert "by what people said of 100 runs, the mean loss is" in capsys.readouterr().out
    assert "By what people said of 100 runs" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_without_reviews_nothing_is_stated(tmp_path: Path) -> None:
    """Null, not 0."""
    _, data = audit_of(tmp_path, n=60)
    assert data["quality"]["default"]["loss_by_people"] is None
