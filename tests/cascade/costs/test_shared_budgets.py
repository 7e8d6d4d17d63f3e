"""Budgets by day and by month, of policies and of tags, and the warnings at a half, four fifths and the whole."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import cascade
from cascade.costs import budget, budget_alarms
from cascade.policy import load
from cascade.util.log_events import Event

FILE = """
models: {{m: {{provider: scripted, answers: ["51"], price: {{input_per_mtok: 0, output_per_mtok: 0, per_request: 1}}}}}}
{top}
policies:
  default: {{tiers: [{{model: m, accept_at: 0.0}}], {own}}}
"""


class Priced:
    """A model whose answers cost a dollar each."""

    name = "m"
    max_cost_usd = 1.0

    async def answer(self, *_: object) -> list[cascade.Answer]:
        """An answer."""
        return [cascade.Answer("51", cost_usd=1.0)]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def _first_alarms() -> Iterator[None]:
    """No level was reached before."""
    budget_alarms._reached.clear()
    yield
    budget_alarms._reached.clear()


def service(top: str = "", own: str = "", folder: Path | None = None) -> cascade.Cascade:
    """A Cascade with these budgets; in a folder with a journal's ledger, else with one in memory."""
    text = FILE.format(top=top, own=own).replace(", price: {input_per_mtok: 0, output_per_mtok: 0, per_request: 1}", "")
    file = load.parse(
        text.replace("provider: scripted", "provider: scripted, price: {input_per_mtok: 1, output_per_mtok: 1}")
    )
    journal = None if folder is None else f"sqlite:///{folder}/j.db"
    return cascade.Cascade(file, models={"m": Priced()}, journal=journal)


def affordable(one: cascade.Cascade, **options: object) -> int:
    """How many runs the budgets allow, up to 20."""
    for runs in range(20):
        try:
            one.run("q", **options)  # type: ignore[call-overload]
        except cascade.BudgetError:
            return runs
    return 20


def test_a_months_budget_outlasts_its_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next day there is room for the day again, until the month is spent; the next month begins anew."""
    now = [1_800_000_000.0]  # 15 January 2027
    monkeypatch.setattr(budget, "time", lambda: now[0])
    with service(own="budget_usd_per_day: 3, budget_usd_per_month: 7") as one:
        days = []
        for _ in range(4):
            days.append(affordable(one))
            now[0] += 86_400
        now[0] += 30 * 86_400
        days.append(affordable(one))
    assert days == [3, 3, 1, 0, 3]


@pytest.mark.parametrize("journal", [False, True])
def test_each_value_of_a_tag_has_its_own_budget(journal: bool, tmp_path: Path) -> None:
    """A team that spent its budget does not affect others; runs without the tag have no such budget."""
    with service("tag_budgets: {team: {usd_per_day: 4, usd_per_month: 2}}", folder=tmp_path if journal else None) as one:
        assert affordable(one, tags={"team": "search"}) == 2
        assert affordable(one, tags={"team": "ads", "other": 1}) == 2
        assert affordable(one, tags={"team": "search"}) == 0
        assert affordable(one, tags={"other": 1}) == 20
        assert affordable(one) == 20


def test_all_policies_share_a_month() -> None:
    """The file's own budget."""
    with service("budget_usd_per_month: 5") as one:
        assert affordable(one) == 5


def test_a_budget_of_a_tag_needs_a_limit() -> None:
    """An empty one would be a mistake."""
    with pytest.raises(cascade.PolicyError, match="tag_budgets"):
        service("tag_budgets: {team: {}}")


def test_a_policy_without_a_months_budget_keeps_its_hash() -> None:
    """Journals identify a policy by its hash."""
    with service() as plain, service(own="budget_usd_per_month: 5") as limited:
        assert "budget_usd_per_month" not in plain.policies["default"].canonical
        assert plain.policies["default"].hash != limited.policies["default"].hash


@pytest.mark.parametrize("journal", [False, True])
def test_half_four_fifths_and_all_are_warnings_once_each(
    journal: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged at the next request; the request that does not fit gives the last one."""
    caplog.set_level(logging.WARNING, "cascade.budget")
    with service(own="budget_usd_per_day: 10", folder=tmp_path if journal else None) as one:
        assert affordable(one) == 10
        assert affordable(one) == 0
    lines = [record.msg.fields for record in caplog.records if record.name == "cascade.budget"]
    assert [(line["percent"], line["spent_usd"]) for line in lines] == [(50, 5.0), (80, 8.0), (100, 10.0)]
    assert all(str(line["budget"]).endswith("policy default") for line in lines)


def test_a_runs_own_budget_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Its caller gets the error."""
    with service() as one, pytest.raises(cascade.BudgetError):
        one.run("q", budget_usd=0.5)
    assert not [record for record in caplog.records if isinstance(record.msg, Event)]
