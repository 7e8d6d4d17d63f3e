"""The name under which the answers of a tier with ``fuse`` are recorded, as those of a model of their own."""

from collections.abc import Callable

from .tier_spec import TierPolicy


def recorded_name(tier: TierPolicy, name_of: Callable[[str], str]) -> str:
    """The tier's model as a recording names it: its own name, or for ``fuse`` one that also says what it reads.

    Args:
        tier: The tier.
        name_of: A model's name in the recording, by its name in the policy file.
    """
    own = name_of(tier.model)
    if tier.fuse is None:
        return own
    times = f"{tier.samples}x " if tier.samples is not None and tier.samples > 1 else ""
    return f"{own} fuse({times}{', '.join(map(name_of, tier.fuse))})"
