"""The commands that follow a replay."""

from pathlib import Path

from .own_policy import OwnPolicy


def after_writing(own: OwnPolicy, target: str) -> list[str]:
    """Three commands for a new policy file: check it, serve it, learn from its traffic."""
    policy = "" if own.name == "default" else f" --policy {own.name}"
    recording = Path(target).stem + "-traffic.jsonl"
    learn = (
        f"cascade journal export {recording} --format recording --policy-file {target}"
        if own.has_journal
        else f'cascade run --policy-file {target}{policy} "a prompt of yours"'
    )
    return [f"cascade check --strict {target}", f"cascade serve --policy-file {target}", learn]


def to_write(own: OwnPolicy, recording: str, promise: str) -> str:
    """The command that tunes a policy that was only measured."""
    policy = "" if own.name == "default" else f" --policy {own.name}"
    target = own.path.with_name(f"{own.path.stem}-tuned{own.path.suffix}")
    return f"cascade replay {recording} --policy-file {own.path}{policy} --max-loss {promise} --write-policy {target}"
