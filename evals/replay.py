"""Replays a recording through the real engine: ``python -m evals.replay [RECORDING] [--tiers A,B,C] ...``.

Thresholds are chosen on the train rows and measured on the test rows, which the choice never saw. One table compares the
cascade with each tier alone and with the oracle.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from cascade import Cascade, CascadeError, Policy
from cascade.models.recorded import RecordedModel
from evals.grid import Scored, choose
from evals.recording import Example, RecordingError, models_of, read
from evals.rows import ReplayError, Rules, check_tiers, default_judges, named_judges, oracle, split, usable
from evals.table import Line, as_json, interval, line, mean_or_none, render

STARTER = Path(__file__).parent / "starter" / "starter.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay found: the figures of the table and everything needed to repeat it."""

    lines: tuple[Line, ...]
    tiers: tuple[str, ...]
    policy: Policy
    n_train: int
    n_test: int
    left_out: dict[str, int]
    loss_interval: tuple[float, float]
    seed: int
    per_second: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "lines": [as_json(item) for item in self.lines],
            "tiers": list(self.tiers),
            "thresholds": {t.name: t.accept_at for t in self.policy.tiers},
            "policy": self.policy.model_dump(mode="json"),
            "policy_hash": self.policy.hash,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "left_out": self.left_out,
            "cascade_minus_premium_95": list(self.loss_interval),
            "notes": list(self.notes),
            "seed": self.seed,
            "examples_per_second": self.per_second,
        }

    def __str__(self) -> str:
        low, high = self.loss_interval
        chosen = "\n".join(
            f"  {t.name}: accept at {t.accept_at:.4g}, judges {', '.join(j.use for j in t.judges) or 'none'}"
            for t in self.policy.tiers
        )
        gone = "".join(f"; left out: {n} ({why})" for why, n in self.left_out.items() if n)
        return (
            f"{render(self.lines, self.tiers)}\n\n"
            f"n = {self.n_train} train, {self.n_test} test{gone}\n"
            f"cascade - premium quality: 95 % interval [{low:+.3f}, {high:+.3f}] (paired bootstrap, seed {self.seed})\n"
            f"ladder:\n{chosen}\n{''.join(f'note: {n}{chr(10)}' for n in self.notes)}{self.per_second:,.0f} examples/s"
        )


async def score(cascade: Cascade, tiers: Sequence[str], rows: Sequence[Example], progress: "Progress") -> list[list[Scored]]:
    """What every tier and its judges say of every row, by the engine itself. Raises ReplayError."""
    table = []
    for example in rows:
        prompt, scored = example.to_prompt(), []
        for tier in tiers[:-1]:
            a = await cascade.attempt(tier, prompt)
            if a.error is not None or a.answer is None:
                raise ReplayError(f"example {example.id!r}, tier {tier!r}: {a.error or 'no answer'}")
            bare, quality = example.answers[tier], a.answer.extra.get("quality")
            usd = bare.get("cost_usd")
            if quality is None:
                raise ReplayError(f"example {example.id!r}, tier {tier!r}: the judges chose a sample that is not graded")
            if a.cost_usd is None or usd is None:
                what = "the answer" if usd is None else "its judging (set sample_cost_usd)"
                raise ReplayError(_no_cost(example, tier, what))
            scored.append(Scored(a.confidence, a.vetoed, quality, a.cost_usd, bare["quality"], usd))
        last = example.answers[tiers[-1]]
        if last.get("cost_usd") is None:
            raise ReplayError(_no_cost(example, tiers[-1], "the answer"))
        # The last tier's answer is returned whatever a judge would say: judging it would only cost.
        scored.append(Scored(1.0, False, last["quality"], last["cost_usd"], last["quality"], last["cost_usd"]))
        table.append(scored)
        progress.step()
    return table


def _no_cost(example: Example, tier: str, what: str) -> str:
    return f"example {example.id!r}, tier {tier!r}: the cost of {what} is unknown, so thresholds cannot be chosen by cost"


class Progress:
    """One line on stderr, from two seconds of work on."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started, self.shown = total, 0, perf_counter(), 2.0

    def step(self) -> None:
        self.done += 1
        spent = perf_counter() - self.started
        if spent > self.shown:
            self.shown = spent + 1.0
            print(f"\r{self.done} of {self.total} rows", end="", file=sys.stderr, flush=True)

    def end(self) -> float:
        """Ends the line; returns rows per second."""
        if self.shown > 2.0:
            print(file=sys.stderr)
        return self.done / max(perf_counter() - self.started, 1e-9)


async def replay(
    examples: Sequence[Example],
    tiers: Sequence[str],
    *,
    judges: Sequence[str] | None = None,
    policy: Policy | None = None,
    max_loss: float = 0.02,
    seed: int = 0,
) -> Report:
    """Chooses a ladder on the train rows (or takes ``policy``, its models named as in the recording) and tests it.

    Raises ReplayError, and PolicyError for a judge that does not exist.
    """
    notes: list[str] = []
    check_tiers(tiers, models_of(examples))
    kept, left_out = usable(examples, tiers)
    train, test = split(kept, seed)
    models = {t: RecordedModel(t, t, {e.id: e.answers[t] for e in kept}) for t in tiers}
    progress = Progress(len(test) if policy else len(train) + len(test))
    if policy is None:
        rules = {t: default_judges(train, t) if judges is None else named_judges(judges, train, t) for t in tiers[:-1]}
        full = _policy(tiers, rules, [0.0] * len(tiers))
        async with Cascade(full, models=models) as trial:
            scored = await score(trial, tiers, train, progress)
        for i, tier in enumerate(tiers[:-1]):
            if all(row[i].vetoed for row in scored):
                used = ", ".join(rule["use"] for rule in rules[tier])
                notes.append(f"every train answer of {tier} is vetoed; leave the judge out by --judges (now: {used})")
        before = perf_counter()
        choice = choose(scored, len(tiers), max_loss)
        progress.started += perf_counter() - before  # the search is no replaying
        policy = _policy([tiers[i] for i in choice.tiers], rules, [*choice.thresholds, 0.0])
    async with Cascade(policy, models=models) as cascade:
        results = []
        for example in test:
            results.append(await cascade.arun(example.to_prompt()))
            progress.step()
    per_second = progress.end()
    answers = {t: [e.answers[t] for e in test] for t in tiers}
    premium_usd = mean_or_none([a.get("cost_usd") for a in answers[tiers[-1]]])
    lines = [
        line(t, [a["quality"] for a in got], [a.get("cost_usd") for a in got], [a.get("latency_s") for a in got],
             [t] * len(test), premium_usd)
        for t, got in answers.items()
    ]  # fmt: skip
    timed = all(a.get("latency_s") is not None for t in policy.tiers for a in answers[t.model])
    quality = [float(r.answer.extra["quality"]) if r.answer is not None else 0.0 for r in results]
    spent = [r.latency_s if timed else None for r in results]
    lines.append(line("cascade", quality, [r.cost_usd for r in results], spent, [r.model for r in results], premium_usd))
    best = [oracle(e, tiers) for e in test]
    picked = [e.answers[t] for e, t in zip(test, best, strict=True)]
    lines.append(
        line("oracle", [a["quality"] for a in picked], [a.get("cost_usd") for a in picked],
             [a.get("latency_s") for a in picked], best, premium_usd)
    )  # fmt: skip
    loss = interval([q - a["quality"] for q, a in zip(quality, answers[tiers[-1]], strict=True)], seed)
    if loss[1] < -max_loss:
        notes.append(f"the test rows lost more than {max_loss:g}: the train rows are too few, or unlike the test rows")
    silent = sum(v.reason.startswith("judge failed") for r in results for a in r.attempts for v in a.verdicts)
    if silent:
        notes.append(f"{silent} verdicts on test rows are missing, because what their judge asks was not recorded")
    return Report(tuple(lines), tuple(tiers), policy, len(train), len(test), left_out, loss, seed, per_second, tuple(notes))


def _policy(tiers: Sequence[str], rules: dict[str, Rules], thresholds: Sequence[float]) -> Policy:
    steps = [
        {"name": t, "model": t, "accept_at": at, "judges": [] if i == len(tiers) - 1 else rules[t]}
        for i, (t, at) in enumerate(zip(tiers, thresholds, strict=True))
    ]
    # A judge whose question was not recorded cannot tell; that is a missing score, not a reason to escalate.
    return Policy.model_validate(
        {"tiers": steps, "when_unsure": "best", "max_calls": 64 * len(steps), "on_judge_error": "ignore"}
    )


def _from_file(path: str) -> Policy:
    """The policy ``default`` (or the only one) of a policy file, its models called as the provider calls them."""
    from cascade import policy_file

    file = policy_file.load(path)
    policy = file.policies.get("default") or next(iter(file.policies.values()))
    tiers = [t.model_copy(update={"model": file.models[t.model].model or t.model}) for t in policy.tiers]
    return policy.model_copy(update={"tiers": tiers})


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m evals.replay", description="Replay a recording; print one table.")
    parser.add_argument("recording", nargs="?", default=str(STARTER), help="JSON Lines, .gz allowed (default: starter)")
    parser.add_argument("--tiers", help="models of the recording, cheapest first, premium last, separated by commas")
    parser.add_argument("--policy-file", help="replay this file's policy as it is, without choosing thresholds")
    parser.add_argument("--judges", help="judges of every tier but the last (default: what the recording can feed)")
    parser.add_argument("--max-loss", type=float, default=0.02, help="quality that may be lost on train (default 0.02)")
    parser.add_argument("--seed", type=int, default=0, help="for the split and the bootstrap (default 0)")
    parser.add_argument("--json", help="write the figures to this file as well")
    args = parser.parse_args(argv)
    try:
        if not 0.0 <= args.max_loss <= 1.0:
            raise ReplayError(f"--max-loss must lie in [0, 1], got {args.max_loss}")
        examples = list(read(args.recording))
        policy = _from_file(args.policy_file) if args.policy_file else None
        tiers = args.tiers.split(",") if args.tiers else models_of(examples)
        if policy is not None:
            tiers = [t.model for t in policy.tiers]
        elif not args.tiers and args.recording != str(STARTER) and len(tiers) > 4:
            raise ReplayError(f"the recording has {len(tiers)} models; choose with --tiers from: {', '.join(tiers)}")
        judges = None if args.judges is None else [j for j in args.judges.split(",") if j]
        report = asyncio.run(replay(examples, tiers, judges=judges, policy=policy, max_loss=args.max_loss, seed=args.seed))
        if args.json:
            Path(args.json).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    except (ReplayError, RecordingError, CascadeError, OSError, ValueError) as error:
        # One line, because a validation error of several lines would hide what matters.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
