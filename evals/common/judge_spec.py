"""Judges and graders as they are written on a command line: ``name:option=value:...``."""

from typing import Any


class JudgeSpecError(ValueError):
    """A judge's specification that cannot be read; the message says how to write it."""


def judge_rule(text: str) -> dict[str, Any]:
    """Reads ``judge:option=value:...`` as a judge of a policy file.

    Args:
        text: The specification, for example ``self_consistency:samples=5``.

    Returns:
        The judge's name under ``use``, and its options.

    Raises:
        JudgeSpecError: An option is not written as ``option=value``.
    """
    use, *options = text.split(":")
    rule: dict[str, Any] = {"use": use}
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise JudgeSpecError(
                f"--judges: {text!r}: write options as judge:option=value, for example self_consistency:samples=5"
            )
        rule[key] = option_value(value)
    return rule


def option_value(text: str) -> Any:
    """The integer, number or boolean that an option's text denotes, otherwise the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
