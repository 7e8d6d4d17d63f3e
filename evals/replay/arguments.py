"""The arguments of ``python -m evals.replay``."""

import argparse

from cascade.data import STARTER_RECORDING
from cascade.util.argument_parser import CommandParser
from evals.engines import add_argument

EXAMPLES = """examples:
  python -m evals.replay                                         the shipped recording
  python -m evals.replay logs.jsonl --tiers mini,large --max-loss 0.03 --delta 0.1 \\
      --out calibration.json --report report.html                at most 3 points below `large`, with 90 % probability
  python -m evals.replay logs.jsonl --tiers mini,large --max-loss 0.02,0.03,0.05 --volume 1M
                                                                 which of three promises hold, and the cost per month
  python -m evals.replay logs.jsonl --tiers a,b,c --min-quality 0.9
  python -m evals.replay logs.jsonl --tiers a,b,c --min-accepted-quality 0.95
  python -m evals.replay logs.jsonl --tiers a,b,c --budget-per-1k 0.5
  python -m evals.replay logs.jsonl --tiers a,b --judges rules,self_consistency:samples=9
  python -m evals.replay logs.jsonl --policy-file policies.yaml --max-loss 0.02,0.03,0.05 --write-policy tuned.yaml
                                                                 tune your own policy, and write it with its calibration
  python -m evals.replay logs.jsonl --policy-file policies.yaml   measure a policy as it is, without tuning
"""


def parser(prog: str = "python -m evals.replay") -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = CommandParser(
        prog=prog,
        description="Calibrate, tune and certify on one half of a recording; print one table of the other half.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recording", nargs="?", default=str(STARTER_RECORDING), help="JSON Lines, .gz allowed (default: the shipped one)")
    add("--tiers", help="models of the recording, cheapest first, premium last, separated by commas")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--max-loss", metavar="EPS[,EPS...]",
        help="most mean quality to lose against the premium tier; several: a menu (default 0.02,0.03,0.05,0.1)")  # fmt: skip
    goal.add_argument("--min-quality", type=float, metavar="Q", help="least mean quality, in [0, 1]")
    goal.add_argument("--min-accepted-quality", type=float, metavar="Q", help="least quality of accepted answers")
    goal.add_argument("--budget-per-1k", type=float, metavar="USD", help="best quality for USD per 1,000 prompts")
    goal.add_argument("--error-price", type=float, metavar="USD", help="least cost, a wrong answer costing USD")
    add("--choose", type=float, metavar="EPS", help="the line of the menu to use (default: the strictest that is proved)")
    add("--delta", type=float, default=0.1, help="probability that a certified promise is broken (default 0.1)")
    add("--judges", help="judge[:option=value...],... of every tier (default: those for which the recording has data)")
    add("--method", choices=("auto", "split", "preset"), default="auto",
        help="preset: a grid fixed beforehand (two tiers, one score); split: tune on some rows first")  # fmt: skip
    add("--by", choices=("task",),
        help="task: thresholds for each task of the recording; the promise covers them all together")  # fmt: skip
    add("--task-tags", action="store_true",
        help="with --by-prompt: callers name each prompt's task by the tag that the policy reads it from, as the recording "
             "does; the task is then a feature of the prompt, and prompts with another task or none are unlike the "
             "recording")  # fmt: skip
    add("--by-prompt", action="store_true",
        help="decide by the prompt as well: as evidence, and which tiers are not asked at all; each where cross-validation "
        "shows a gain")  # fmt: skip
    add("--max-usd", type=float, metavar="X",
        help="with --by-prompt and a policy with `embedding`: stop before the embeddings cost more than this")  # fmt: skip
    add("--max-latency", type=float, metavar="P95",
        help="seconds that 95 %% of the runs may take: only cascades that keep to it are tested")  # fmt: skip
    add("--speculate", action="store_true",
        help="ask two tiers at once where escalation is likely; at most 5 %% more cost")  # fmt: skip
    add("--max-task-loss", type=float, metavar="EPS",
        help="most mean quality to lose on any task: thresholds by task; a smaller --max-loss holds as well")  # fmt: skip
    add("--split", choices=("half", "recorded"), default="half", help="halves drawn by --seed, or the recording's own split")
    add("--keep-premium", action="store_true", help="only cascades that end with the premium tier")
    add("--policy-file", metavar="FILE",
        help="tune a policy of this file: models, judges, limits; without a promise: measure it as it is")  # fmt: skip
    add("--policy", metavar="NAME", help="which policy of --policy-file (default: default, or the only one)")
    add("--as-is", action="store_true", help="measure the policy of --policy-file as it is, against the promise")
    add("--seed", type=int, default=0, help="of splits, folds and bootstrap (default 0)")
    add("--volume", metavar="N", help="prompts per month, such as 250k or 1M: adds the amount of money per month")
    add("--full", action="store_true", help="print latencies, shares of answers and every task as well")
    add("--out", metavar="FILE", help="write the calibration that policies.yaml refers to")
    add("--write-policy", metavar="FILE", help="write the policy file in which the policy of --policy-file is calibrated")
    add("--report", metavar="FILE", help="write a self-contained HTML page")
    add("--json", metavar="FILE", help="write every figure as JSON")
    add_argument(parser)
    return parser
