"""Changes a policy in the text of its file, so that everything else stays as it was written, comments included."""

import json
import re
from collections.abc import Iterator

import yaml

from evals.replay.rows.input_rows import ReplayError

THRESHOLDS = ("accept_at", "reject_below", "accept_at_by_task")
Edit = tuple[int, int, str]
"""Where a piece of the text begins, where it ends, and what takes its place."""


def use_calibration(text: str, policy: str, calibration: str) -> str:
    """The text of a policy file in which one policy uses a calibration.

    Adds the calibration, and removes from the policy's tiers and judges the thresholds that the calibration sets. What
    another policy shares by an alias, and what is merged by ``<<``, stays unchanged.

    Args:
        text: The policy file; must be valid.
        policy: The policy's name.
        calibration: The calibration's path, relative to the policy file.

    Raises:
        ReplayError: The policy is not written as a mapping of its own.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    policies = _value(root, "policies")
    node = _value(policies, policy)
    if not isinstance(node, yaml.MappingNode) or not node.value or not isinstance(policies, yaml.MappingNode):
        raise ReplayError(f"the policy {policy!r} has no mapping of its own in the file; write `calibration: {calibration}`")
    shared = {
        id(child) for key, other in policies.value if key.value != policy for child in _descendants(other)
    }  # an alias is the node itself
    if id(node) in shared:
        raise ReplayError(f"the policy {policy!r} is an alias of another one; write it out before it is calibrated")
    edits = [_named(text, node, calibration)]
    tiers = _value(node, "tiers")
    for tier in tiers.value if isinstance(tiers, yaml.SequenceNode) else ():
        for mapping in (tier, *_judges(tier)):
            if isinstance(mapping, yaml.MappingNode) and id(mapping) not in shared:
                edits += _without_thresholds(text, mapping)
    for start, end, new in sorted(set(edits), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            if key_node.value == key:
                return value  # type: ignore[no-any-return]
    return None


def _descendants(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            yield from _descendants(part)


def _judges(tier: yaml.Node) -> list[yaml.Node]:
    judges = _value(tier, "judges")
    return list(judges.value) if isinstance(judges, yaml.SequenceNode) else []


def _named(text: str, policy: yaml.MappingNode, calibration: str) -> Edit:
    """The policy's key ``calibration``: its new value, or the key itself in front of the policy's first key."""
    value = calibration if re.fullmatch(r"[A-Za-z][\w./-]*", calibration) else json.dumps(calibration)
    old = _value(policy, "calibration")
    if old is not None:
        empty = old.start_mark.index == old.end_mark.index  # right behind the colon
        return old.start_mark.index, old.end_mark.index, f" {value}" if empty else value
    first = policy.value[0][0].start_mark
    end = ", " if policy.flow_style else f"\n{' ' * first.column}"
    return first.index, first.index, f"calibration: {value}{end}"


def _without_thresholds(text: str, mapping: yaml.MappingNode) -> list[Edit]:
    """The edits that remove the thresholds from one mapping."""
    edits: list[Edit] = []
    pairs = mapping.value
    remaining = [key.value not in THRESHOLDS for key, _ in pairs]
    for i, (key, value) in enumerate(pairs):
        if remaining[i]:
            continue
        start, end = key.start_mark.index, value.end_mark.index
        following = pairs[i + 1][0].start_mark.index if i + 1 < len(pairs) else None
        if mapping.flow_style:
            # With the separator to the next key or, after the last key, to the one before.
            before = max((j for j in range(i) if remaining[j]), default=None)
            if following is not None and any(remaining[i + 1 :]):
                edits.append((start, following, ""))
            elif before is not None:
                edits.append((_end(text, pairs, i - 1), end, ""))
            else:
                edits.append((start, end, ""))
            continue
        line_end = text.find("\n", end)
        line_end = len(text) if line_end < 0 else line_end
        comment = text[end:line_end].strip()
        if i == 0 and following is not None:  # it shares its line with the "- " of a sequence
            left = f"{comment}\n{' ' * key.start_mark.column}" if comment else ""
            edits.append((start, following, left))
            continue
        line_start = text.rfind("\n", 0, start) + 1
        left = f"{' ' * key.start_mark.column}{comment}\n" if comment else ""
        edits.append((line_start, min(line_end + 1, len(text)), left))
    return edits


def _end(text: str, pairs: list[tuple[yaml.Node, yaml.Node]], i: int) -> int:
    """Where the value of pair ``i`` ends in the text; an alias ends where its own name does."""
    comma = text.rfind(",", 0, pairs[i + 1][0].start_mark.index)
    return comma if comma >= 0 else pairs[i][1].end_mark.index
