"""Which cascades are swept: single models, pairs, longer ones of the best steps, and those that ask for a consensus."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

from cascade.policy.calibrators import Constant
from evals.replay.evidence.consensus import models_asked
from evals.replay.simulate import CandidateTier, SimulatedCascade

MAX_TIERS = 5
# Cascades of more than two tiers take each model's best few steps, as found on the cascades of two.
BEST_STEPS = 3


def candidate_cascades(
    tiers: Mapping[str, Sequence[CandidateTier]],
    ends: Mapping[str, CandidateTier],
    price: Callable[[SimulatedCascade], float],
    must_end: str | None = None,
) -> list[SimulatedCascade]:
    """Single models, every pair of steps, and longer cascades of each model's best steps, in the given order.

    Args:
        tiers: Each model's steps, cheapest model first.
        ends: Each model's step as the last tier.
        price: The predicted cost of a pair: it tells which of a model's steps are worth taking in longer cascades.
        must_end: The model that every cascade must end with; None: any.
    """
    order = list(tiers)
    last = [m for m in order if must_end is None or m == must_end]
    cascades = [SimulatedCascade.from_tiers([ends[m]]) for m in last]
    prices: dict[str, dict[int, float]] = {m: {} for m in order}
    for i, model in enumerate(order):
        for end in (m for m in order[i + 1 :] if m in last):
            for j, tier in enumerate(tiers[model]):
                cascade = SimulatedCascade.from_tiers([tier, ends[end]])
                cascades.append(cascade)
                if end == (must_end or order[-1]):
                    prices[model][j] = price(cascade)
    best = {
        model: [tiers[model][j] for j, _ in sorted(of_model.items(), key=lambda item: item[1])[:BEST_STEPS]]
        for model, of_model in prices.items()
    }
    for size in range(3, min(MAX_TIERS, len(order)) + 1):
        keep = BEST_STEPS if len(order) <= 4 else 1
        for models in combinations(order, size):
            if models[-1] in last:
                steps = [best[m][:keep] or tiers[m][:1] for m in models[:-1]]
                cascades += [SimulatedCascade.from_tiers([*chosen, ends[models[-1]]]) for chosen in product(*steps)]
    return cascades


def consensus_cascades(
    tiers: Mapping[str, Sequence[CandidateTier]], voters: Sequence[CandidateTier], end: CandidateTier
) -> list[SimulatedCascade]:
    """Cascades with one tier whose judges ask other models: that tier, the end, and at most one tier more.

    A model that votes is not asked again as a tier. The end is always the premium tier: the fit rows are too few to say how
    good another model is where the voters differ.

    Args:
        tiers: Each model's steps, cheapest model first, the premium tier last.
        voters: The tiers whose judges ask other models.
        end: The premium tier as the last one.
    """
    order, cascades = list(tiers), list[SimulatedCascade]()
    for tier in voters:
        asked_models = {tier.model, *models_asked(tier.column)}
        cascades.append(SimulatedCascade.from_tiers([tier, end]))
        for i, middle in enumerate(order[:-1]):
            if middle not in asked_models and not is_constant(tiers[middle][0]):
                between = [tier, tiers[middle][0]]
                ordered = between if i > order.index(tier.model) else between[::-1]
                cascades.append(SimulatedCascade.from_tiers([*ordered, end]))
    return cascades


def is_constant(tier: CandidateTier) -> bool:
    """Whether the tier's last confidence is the same for every answer."""
    return bool(tier.calibrators) and isinstance(tier.calibrators[-1], Constant)
