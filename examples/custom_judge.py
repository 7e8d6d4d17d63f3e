"""A judge of your own: answers about orders must cite an order number that is in the prompt.

Run it: ``python examples/custom_judge.py``. The models are scripted, so it needs neither a key nor a network.
"""

import re

import judges
from cascade import Cascade, Policy, ScriptedModel
from judges import JudgeInput, Verdict


class CitedOrders:
    """Vetoes an answer with an unknown order number, and scores by the share of the prompt's orders that it cites."""

    name = "cited_orders"
    only_vetoes = False  # it also scores

    def __init__(self, pattern: str = r"#\d+") -> None:
        # Options come from the policy file: {use: cited_orders, pattern: 'A-\d+'}.
        self.pattern = re.compile(pattern)

    def judge(self, case: JudgeInput) -> Verdict:
        """One verdict for one answer."""
        expected = set(self.pattern.findall(case.prompt.text))
        cited = set(self.pattern.findall(case.answer.text))
        if unknown := cited - expected:
            return Verdict(self.name, veto=True, reason=f"cites {len(unknown)} unknown orders")
        if not expected:
            return Verdict(self.name, None, reason="the prompt names no order")  # cannot tell: None, not 0
        return Verdict(self.name, len(cited & expected) / len(expected))


# Before the policy is read. An installed package would use the entry point group "cascade.judges" instead.
judges.register("cited_orders", CitedOrders)

POLICY = Policy.model_validate(
    {
        "tiers": [
            {"model": "small", "accept_at": 0.9, "judges": ["rules", "cited_orders"]},
            {"model": "large", "accept_at": 0.9, "judges": ["rules", "cited_orders"]},
        ]
    }
)


def main() -> None:
    """Runs once: the small model invents an order, so the run escalates to the large one."""
    small = ScriptedModel("small", ["Orders #17 and #99 are on their way."])
    large = ScriptedModel("large", ["Order #17 is on its way, order #18 was returned."])
    with Cascade(POLICY, models={"small": small, "large": large}) as service:
        result = service.run("What happened to orders #17 and #18?")
    for attempt in result.attempts:
        verdict = attempt.verdicts[-1]
        print(f"{attempt.tier}: {attempt.reason}, {verdict.judge} {verdict.reason or verdict.score}")
    print(result.accepted, result.text)


if __name__ == "__main__":
    main()
