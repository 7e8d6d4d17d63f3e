"""The commands that follow a replay."""

from pathlib import Path

from cascade.policy import load
from cascade.util.own_command import own_command

from .own_policy import OwnPolicy


def after_writing(own: OwnPolicy, target: str) -> list[str]:
    """Three commands for a new policy file: check it, serve it, learn from its traffic."""
    cascade, policy = own_command(), _policy(own)
    recording = Path(target).stem + "-traffic.jsonl"
    learn = (
        f"{cascade} journal export {recording} --format recording --policy-file {target}"
        if own.has_journal
        else f'{cascade} run --policy-file {target}{policy} "a prompt of yours"'
    )
    return [f"{cascade} check --strict{policy} {target}", f"{cascade} serve --policy-file {target}", learn]


def to_write(own: OwnPolicy, recording: str, promise: str) -> str:
    """The command that tunes a policy that was only measured."""
    policy = _policy(own)
    target = own.path.with_name(f"{own.path.stem}-tuned{own.path.suffix}")
    return (
        f"{own_command()} replay {recording} --policy-file {own.path}{policy} --max-loss {promise} --write-policy {target}"
    )


def with_own_questions() -> list[str]:
    """What to do after the shipped recording: the same with questions of one's own, two columns of a table."""
    here = Path("policies.yaml")
    record = f"{own_command()} record questions.csv --policy-file policies.yaml"
    rest = "--grader text --max-usd 5 --out answers.jsonl"
    if not here.is_file():
        return [
            "your own questions, a CSV file with the columns prompt and reference, and your models in policies.yaml:",
            f"{record} {rest}",
        ]
    policies = load.load(here, calibrated=False).policies
    policy = " --policy openai" if "openai" in policies else ""
    return [
        "your own questions, a CSV file with the columns prompt and reference, and the keys of the models set:",
        f"{record}{policy} {rest}",
    ]


def _policy(own: OwnPolicy) -> str:
    return "" if own.name == "default" else f" --policy {own.name}"
