"""Conversations: where their turns begin, what is remembered of them, and that no more than that is."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import Answer, Cascade, Result
from cascade.engine.sessions import SessionMemory, first_turns
from cascade.engine.sessions.costs import TierCost, TurnCosts, trial_gain
from cascade.gateway.request import GatewayRequest, session_of
from cascade.journal.read.verify import StoredPolicy, verify
from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import Policy, PolicyFile
from judges import Prompt
from tests.benchmarks.bench_sessions import CHEAP, DEAR, CachingModel, failures, measure
from tests.cascade.journal.cascades import policies, records


class Model:
    """Sure of prompts that do not say "hard", or of all."""

    def __init__(self, name: str, *, able: bool) -> None:
        self.name, self.able, self.calls, self.down = name, able, 0, False

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """One answer."""
        self.calls += 1
        if self.down:
            raise ModelError("down", model=self.name)
        sure = self.able or "hard" not in str(prompt.messages[-1]["content"])
        return [Answer("x", verdicts={"rules": 0.9 if sure else 0.1}, cost_usd=0.0)]

    async def close(self) -> None:
        """Nothing to close."""


def make_cascade(sticky: dict[str, Any] | None, **options: Any) -> tuple[Cascade, list[Model]]:
    """Three tiers of which only the last is sure of hard prompts; no prices are known."""
    models = [Model("a", able=False), Model("b", able=False), Model("c", able=True)]
    tiers = [{"model": m.name, "judges": ["rules"], "accept_at": 0.5} for m in models]
    policy = Policy.model_validate({"tiers": tiers, **({"sticky": sticky} if sticky else {})})
    return Cascade(policy, models={m.name: m for m in models}, **options), models  # type: ignore[misc]


def path(result: Result) -> str:
    """The tiers that were asked."""
    return "".join(a.tier for a in result.attempts)


def test_a_conversation_stays_where_it_had_to_go_and_probes_down() -> None:
    """It begins at the tier that it needed, and after five turns tries the one below; others begin at the first."""
    cascade, _ = make_cascade({"probe_every": 5})
    paths = [path(cascade.run("hard", session="s")) for _ in range(12)]
    assert paths == ["abc", "c", "c", "c", "c", "bc", "c", "c", "c", "c", "bc", "c"]
    assert path(cascade.run("easy", session="other")) == "a"
    assert path(cascade.run("hard")) == "abc"


def test_a_probe_that_is_accepted_moves_the_conversation_down() -> None:
    """Step by step to the first tier."""
    cascade, _ = make_cascade({"probe_every": 2})
    cascade.run("hard", session="s")
    paths = [path(cascade.run("easy", session="s")) for _ in range(6)]
    assert paths == ["c", "b", "b", "a", "a", "a"]


def test_a_tool_loop_stays_on_its_model() -> None:
    """Further requests of a turn go to the model that called the tools, even where a probe is due; they are no turns."""
    cascade, _ = make_cascade({"probe_every": 1})
    cascade.run("hard", session="s")
    loop = [{"role": "user", "content": "hard"}, {"role": "tool", "tool_call_id": "1", "content": "17"}]
    results = [cascade.run(loop, session="s") for _ in range(4)]
    assert [path(r) for r in results] == ["c"] * 4
    assert results[0].attempts[0].session == "tool_loop"
    assert path(cascade.run("hard", session="s")) == "bc"


def test_a_failing_provider_does_not_make_a_conversation_stick() -> None:
    """An outage of the cheap model says nothing about the conversation."""
    cascade, models = make_cascade({"probe_every": 5})
    models[0].down = True
    assert path(cascade.run("easy", session="s")) == "ab"
    models[0].down = False
    assert path(cascade.run("easy", session="s")) == "a"


def test_without_the_setting_or_a_name_nothing_is_remembered() -> None:
    """``session`` has no effect on a policy without ``sticky``."""
    cascade, _ = make_cascade(None)
    assert [path(cascade.run("hard", session="s")) for _ in range(3)] == ["abc"] * 3
    cascade, _ = make_cascade({})
    assert [path(cascade.run("hard")) for _ in range(3)] == ["abc"] * 3


def test_memory_is_bounded() -> None:
    """The conversations that were idle longest are forgotten."""
    cascade, _ = make_cascade({"max_sessions": 3})
    for name in "pqrst":
        cascade.run("hard", session=name)
    memory = cascade._runtime._sessions["default"]
    assert len(memory) == 3
    assert [path(cascade.run("hard", session=name)) for name in "tp"] == ["c", "abc"]


def test_a_cold_conversation_may_probe_at_once() -> None:
    """Once the provider's cache has forgotten it, staying has no advantage."""
    now = [0.0]
    cascade, _ = make_cascade({"warm_s": 300, "probe_every": 50})
    cascade.run("hard", session="s")
    memory = cascade._runtime._sessions["default"]
    assert isinstance(memory, SessionMemory)
    memory.clock = lambda: now[0]
    memory._states["s"] = memory._states["s"].__class__(tier="c", turns=1, at=0.0)
    now[0] = 299.0
    assert path(cascade.run("hard", session="s")) == "c"
    now[0] = 700.0
    assert path(cascade.run("hard", session="s")) == "bc"


CHANCES = st.floats(0, 1)
COSTS = st.tuples(st.floats(0, 10), st.floats(0, 10)).map(lambda two: TierCost(usd=sum(two), reads=two[0]))


@given(stay=COSTS, stay_warm=COSTS, warm=COSTS, cold=COSTS, success=CHANCES, again=CHANCES, turns=st.integers(1, 20))
def test_gain_of_a_trial(
    stay: TierCost, stay_warm: TierCost, warm: TierCost, cold: TierCost, success: float, again: float, turns: int
) -> None:
    """A likelier or cheaper trial gains no less, a hopeless one loses its cost, a sure one of one turn saves that turn."""
    costs = TurnCosts(stay=stay, stay_warm=stay_warm, cold=cold, warm=warm)

    def gain(success: float, again: float, *, is_read: bool = False, turns: int = turns) -> float:
        return trial_gain(costs, is_read=is_read, success=success, again=again, turns=turns)

    assert gain(min(1.0, success + 0.1), again) >= gain(success, again) - 1e-9
    assert (gain(success, again, is_read=True) >= gain(success, again)) == (warm.usd <= cold.usd)
    assert gain(0.0, again) == -cold.usd
    assert gain(1.0, again, is_read=True, turns=1) == pytest.approx(stay.usd - warm.usd)
    # Followed by more turns, a success defers reading at the dearer tier, and saves it where none of them escalates.
    assert gain(1.0, 0.0, is_read=True, turns=2) == pytest.approx(stay.usd - stay.reads - warm.usd)
    assert gain(success, 1.0) >= success * stay.usd - cold.usd - 1e-9


def test_verify_takes_sticky_runs(tmp_path: Path) -> None:
    """Records say why a turn began where it did, and verify."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    cascade, _ = make_cascade({"probe_every": 2}, journal=url)
    with cascade:
        for _ in range(4):
            cascade.run("hard", session="s")
    ((hash, text),) = policies(url).items()
    stored = StoredPolicy.of(hash, text)
    assert [verify(record, stored) for record in records(url)] == [[]] * 4
    assert sorted(str(r.attempts[0].get("session")) for r in records(url)) == ["None", "probes", "stays", "stays"]


def test_the_gateway_names_conversations() -> None:
    """By the client's name, its cache key, or the first turns; apart for each key, and only where the policy is sticky."""
    sticky = Policy.model_validate({"tiers": [{"model": "m"}], "sticky": {}})
    plain = Policy.model_validate({"tiers": [{"model": "m"}]})
    turns = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})
    first = GatewayRequest(messages=turns)
    later = GatewayRequest(messages=(*turns, {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}))
    cached = GatewayRequest(messages=turns, options={"prompt_cache_key": "k"})
    session = GatewayRequest(messages=turns, session="k")
    assert session_of(first, sticky, "one") == session_of(later, sticky, "one") != session_of(first, sticky, "two")
    assert session_of(cached, sticky, None) == session_of(session, sticky, None) != session_of(first, sticky, None)
    assert session_of(session, plain, None) is None
    assert first_turns(later.messages) == first_turns(turns)


def test_threads_may_share_a_memory() -> None:
    """Many conversations at once end with the right tiers."""
    cascade, _ = make_cascade({"probe_every": 1000})

    async def run() -> list[str]:
        async with cascade:
            for _ in range(3):
                results = await asyncio.gather(*(cascade.arun("hard", session=f"s{i}") for i in range(50)))
            return [path(r) for r in results]

    assert asyncio.run(run()) == ["c"] * 50


def test_bills_with_cache_prices() -> None:
    """The benchmark's targets: 10 % below a cascade that forgets, at most 1 % above the best model alone."""
    assert failures(asyncio.run(measure(80, ("mixed", "hard")))) == []


@pytest.mark.parametrize(("kind", "below_forgetting"), [("rarely_hard", -0.01), ("mostly_hard", 0.05)])
def test_turns_that_are_hard_at_random(kind: str, below_forgetting: float) -> None:
    """It is learned whether an escalation says anything of the next turn, and whether the cheap tier pays at all."""
    figures = asyncio.run(measure(60, (kind,)))[kind]
    assert figures["below_forgetting"] >= below_forgetting
    assert figures["above_best"] <= 0.01


def test_a_first_escalation_is_followed_by_turns_at_that_tier() -> None:
    """Also where prices are known: only what is seen of many conversations makes the next turn begin below again."""
    prices = {"cheap": CHEAP, "dear": DEAR}
    specs = {name: {"provider": "scripted", "answers": ["-"], "price": price} for name, price in prices.items()}
    tiers = [{"model": name, "judges": ["rules"], "accept_at": 0.5} for name in prices]
    file = PolicyFile.model_validate({"models": specs, "policies": {"default": {"tiers": tiers, "sticky": {}}}})
    models = {"cheap": CachingModel("cheap", able=False), "dear": CachingModel("dear", able=True)}

    def turns(cascade: Cascade, session: str) -> list[str]:
        history, paths = [{"role": "user", "content": "s"}], []
        for word in ["easy", "HARD", "easy", "easy"]:
            history.append({"role": "user", "content": word + "x" * 2400})
            result = cascade.run(history, session=session)
            history.append({"role": "assistant", "content": result.text})
            paths.append(path(result))
        return paths

    with Cascade(file, models=models) as cascade:
        assert turns(cascade, "first") == ["cheap", "cheapdear", "dear", "dear"]


@pytest.mark.parametrize("sticky", [{"probe_every": 0}, {"warm_s": 0}, {"max_sessions": 0}, {"probes": 1}])
def test_wrong_settings(sticky: dict[str, Any]) -> None:
    """They are refused where the file is read."""
    with pytest.raises(ValueError, match="sticky"):
        PolicyFile.model_validate(
            {
                "models": {"m": {"provider": "scripted", "answers": ["-"]}},
                "policies": {"p": {"tiers": [{"model": "m"}], "sticky": sticky}},
            }
        )
