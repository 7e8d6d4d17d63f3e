"""The report page: whole, closed to the network, safe with hostile text, and honest about what is missing."""

import base64
import hashlib
import json
import math
import os
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evals.report import charts, write
from evals.report.charts import Axis
from evals.report.labels import Label, place
from evals.report.markup import clip, element, number, percent, plain, points, share, text, usd
from evals.report.sankey import Link, layout

HOSTILE = (
    """<script>alert(1)</script>"><img src=x onerror='alert(2)'> & </pre></details> $style ${body} \x00\ud800 javascript:"""
)
GEOMETRY = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "width", "height", "viewbox"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


def sample(tasks: int = 8, mistakes: int = 4, lines: int = 9, certified: bool = True, seed: int = 0) -> dict[str, Any]:
    """Findings with every part, of plausible figures."""
    rng = random.Random(seed)
    tiers = ["cheap", "balanced", "premium"]

    def line(name: str, kind: str, quality: float, cost: float, **shares: float) -> dict[str, Any]:
        return {
            "name": name, "kind": kind, "quality": quality, "usd_per_1000": 0.47 * cost, "relative_cost": cost,
            "mean_s": 0.2 + 0.3 * cost, "p95_s": 0.5 + 0.4 * cost, "shares": shares, "difference": quality - 0.836,
            "interval": [quality - 0.851, quality - 0.822] if name != "premium" else [0.0, 0.0],
        }  # fmt: skip

    all_lines = [
        line("cheap", "tier", 0.741, 0.06, cheap=1.0),
        line("balanced", "tier", 0.802, 0.31, balanced=1.0),
        line("premium", "tier", 0.836, 1.0, premium=1.0),
        line("cascade", "cascade", 0.829, 0.41, cheap=0.617, premium=0.383),
        line("random mixing", "baseline", 0.778, 0.41, cheap=0.6, premium=0.4),
        line("best pair", "baseline", 0.829, 0.412, cheap=0.61, premium=0.39),
        line("prompt-only router", "baseline", 0.796, 0.44, cheap=0.55, premium=0.45),
        line("thresholds of 0.7", "baseline", 0.815, 0.47, cheap=0.5, balanced=0.2, premium=0.3),
        line("oracle", "oracle", 0.891, 0.29, cheap=0.741, balanced=0.1, premium=0.159),
    ]

    def bins(shift: float) -> list[dict[str, Any]]:
        entries = []
        for i in range(10):
            confidence = 0.3 + 0.068 * i
            correct = min(max(confidence + shift * (0.5 - i / 10) + rng.uniform(-0.04, 0.04), 0.02), 0.98)
            entries.append(
                {
                    "confidence": confidence,
                    "correct": correct,
                    "n": 90 + i,
                    "low": correct - 0.09,
                    "high": min(correct + 0.07, 1.0),
                }
            )
        return entries

    def card(tier: str, judges: list[str]) -> dict[str, Any]:
        return {
            "tier": tier, "judges": judges, "method": "logistic", "n": 908,
            "before": {"brier": [0.19, 0.178, 0.203], "log_loss": [0.58, 0.54, 0.63], "ece": [0.09, 0.07, 0.11],
                       "auroc": [0.79, 0.76, 0.82], "aurc": [0.12, 0.1, 0.14]},
            "after": {"brier": [0.161, 0.15, 0.173], "log_loss": [0.49, 0.46, 0.52], "ece": [0.021, 0.014, 0.039],
                      "auroc": [0.791, 0.76, 0.82], "aurc": [0.119, 0.1, 0.14]},
            "reliability": {"before": bins(0.5), "after": bins(0.0)},
            "histogram": {"edges": [i / 20 for i in range(21)], "right": [int(3 + i * i / 3) for i in range(20)],
                          "wrong": [int(14 - 0.5 * i + 4 * math.sin(i)) for i in range(20)]},
        }  # fmt: skip

    by_task = []
    for i in range(tasks):
        difference = rng.gauss(-0.008, 0.03)
        by_task.append({
            "task": f"{rng.choice(['high_school', 'college', 'professional'])}_subject_{i}", "n": rng.randint(8, 60),
            "quality": 0.83 + difference, "premium_quality": 0.83, "difference": difference,
            "interval": [difference - 0.05, difference + 0.05], "cost_ratio": rng.uniform(0.15, 0.8),
            "shares": {"cheap": 0.6, "premium": 0.4},
        })  # fmt: skip
    question = (
        "What happens to the rate of the reaction when the temperature doubles?\n(A) It halves\n(B) It doubles\n(C) More\n"
    )
    words = (
        "With probability 90 % over the draw of the 681 certification rows, the cascade's mean quality is at most 3.0 "
        "points below the premium's on prompts like these."
    )
    return {
        "version": 1, "created": "2026-11-24T05:00:00Z", "seed": 0, "n": {"fit": 227, "certify": 681, "test": 908},
        "recording": {"name": "mmlu.jsonl.gz", "sha256": "9f2c" * 16, "n": 1816, "left_out": {"not graded": 3}},
        "promise": {"kind": "max_loss", "value": 0.03, "delta": 0.1},
        "certificate": {
            "certified": certified, "method": "exact paired test, fixed sequence", "n": 681, "max_loss": 0.03, "delta": 0.1,
            "p_value": 0.043 if certified else 0.31, "words": words if certified else "No candidate passed the test.",
            "needed_n": None if certified else 4210,
        },
        "tiers": tiers,
        "chosen": {
            "tiers": ["cheap", "premium"], "thresholds": [0.83], "final": "last",
            "judges": {"cheap": ["rules", "logprob"], "premium": []}, "cost_ratio": 0.41, "usd_per_1000": 0.1927,
            "quality": 0.829, "quality_difference": -0.007, "interval": [-0.022, 0.008],
        },
        "lines": all_lines[:lines],
        "frontier": [
            {"cost_ratio": c, "quality": q, "tiers": ["cheap", "premium"], "thresholds": [0.5]}
            for c, q in [(0.06, 0.741), (0.1, 0.757), (0.15, 0.776), (0.2, 0.79), (0.27, 0.806), (0.34, 0.819),
                         (0.41, 0.829), (0.55, 0.835), (0.7, 0.838), (0.95, 0.839)]
        ],
        "calibration": [card("cheap", ["rules", "logprob"]), card("balanced", ["rules", "logprob", "consistency"])],
        "flow": [
            {"source": "prompts", "target": "cheap", "n": 908}, {"source": "cheap", "target": "answered by cheap", "n": 560},
            {"source": "cheap", "target": "balanced", "n": 348}, {"source": "balanced", "target": "premium", "n": 328},
            {"source": "balanced", "target": "answered by balanced", "n": 20},
            {"source": "premium", "target": "answered by premium", "n": 328},
        ],
        "by_task": by_task,
        "mistakes": [
            {"id": f"row-{i}", "task": "college_chemistry", "tier": "cheap", "confidence": 0.99 - 0.02 * i,
             "prompt": question * (1 + 9 * i),
             "answer": "The rate grows with temperature, so the answer is (B).", "reference": "C" if i else None,
             "premium_answer": "By the Arrhenius equation the growth is exponential: (C).", "premium_quality": 1.0}
            for i in range(mistakes)
        ],
        "notes": ["Prices as listed on the day of the recording.", "Latency is measured one request at a time."],
    }  # fmt: skip


class Tree(HTMLParser):
    """Reads a page strictly: every element closed in order, no attribute twice; gathers elements, identities and words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self) -> str:
        """All words that are shown."""
        return " ".join(data for tag, data in self.words if tag not in {"style", "script"}).replace("\xa0", " ")

    def sections(self) -> list[str]:
        """The identities of the sections, in their order."""
        return [str(attributes["id"]) for attributes in self.named("section")]


def check(page: str) -> Tree:
    """What holds for every page: well formed, unique identities, all references met, nothing loaded, one script."""
    page.encode()
    tree = Tree(page)
    names = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(set(names)) == len(names)
    for _, attributes in tree.tags:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in names
        assert not {"src", "href", "srcset", "action", "style", "xlink:href"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        for name, value in attributes.items():
            if name in GEOMETRY:
                assert not re.search("nan|inf", value or ""), (name, value)
    assert len(tree.named("script")) == 1
    for image in tree.named("svg"):
        assert image.get("aria-hidden") == "true" or (image["role"] == "img" and image["aria-labelledby"])
    assert "url(" not in page.split("</style>")[0]
    assert "@import" not in page.split("</style>")[0]
    return tree


def test_the_whole_page_is_well_formed_and_loads_nothing() -> None:
    """All sections are in order, and the page has no URL but the XML namespace."""
    page = write.render(sample())
    tree = check(page)
    assert tree.sections() == [
        "certificate", "frontier", "table", "flow", "calibration", "tasks", "mistakes", "notes", "reproduce",
        "glossary",
    ]  # fmt: skip
    closed = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|ftp:|[\"'(=\s]//\w|<link|<img|<iframe|<base\b", closed)


def test_a_baseline_far_to_the_right_is_cut_off_with_a_mark() -> None:
    """It is drawn at the edge with its cost as a label, so that the other points keep their space."""
    lines = [
        {"name": "dear", "kind": "tier", "quality": 0.9, "relative_cost": 1.0},
        {"name": "guesses", "kind": "baseline", "quality": 0.8, "relative_cost": 9.0},
    ]
    page = write.render({**sample(), "lines": lines, "frontier": []})
    assert "guesses, 900\u00a0% →" in page
    assert "quality 80.0\u00a0% at 900.0\u00a0% of the premium" in page
    near = charts.frontier("x", charts.dots(lines, {}), [])
    assert max(float(x) for x in re.findall(r'class="axis">([\d.]+)\xa0%', near)) < 120


def test_terms_are_explained_where_they_stand_and_in_the_glossary() -> None:
    """Every abbreviation of a table's head."""
    page = write.render(sample())
    for term in ("ECE", "AUROC", "AURC", "USD", "p95", "Brier score"):
        assert f">{term}</abbr>" in page, term
        assert f"<dt>{term}</dt>" in page, term


def test_abbreviations_are_explained_in_notes_and_facts() -> None:
    """Every one of them on hover, and nothing else of the note changes."""
    findings = sample() | {"notes": ["router: 30 % by TF-IDF & <b>, USD unknown"]}
    page = write.render(findings)
    hover = r'<abbr title="[^"]{5,}" tabindex="0">'
    assert re.search(rf"by {hover}TF-IDF</abbr> &amp; &lt;b&gt;, {hover}USD</abbr> unknown", page)
    assert re.search(rf"<dt>{hover}SHA-256</abbr></dt>", page)


def test_mistakes_are_filtered_by_task_and_references_are_json() -> None:
    """The choice is hidden until the script runs; a reference that is not text is shown as JSON."""
    mistakes = [{**sample()["mistakes"][0], "task": task, "reference": {"a": [True, None]}} for task in ("x", "y", "x")]
    page = write.render({**sample(), "mistakes": mistakes})
    assert '<option value="x">x (2)</option>' in page
    assert page.count('<details data-task="x">') == 2
    assert "&quot;a&quot;: [\n  true,\n  null\n ]" in page
    one = write.render({**sample(), "mistakes": mistakes[:1]})
    assert "<select" not in one


def test_the_policy_of_the_page_allows_its_own_script_alone() -> None:
    """The content security policy names the digest of exactly the script that the page carries."""
    page = write.render(sample())
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in check(page).named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    script_source = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in script_source


def test_the_headline_says_promise_certainty_and_cost() -> None:
    """One sentence holds the promise, the confidence and the share of the premium's cost; the figures carry intervals."""
    text_shown = check(write.render(sample())).text()
    assert (
        "With 90 % confidence the cascade loses at most 3.0 points of quality against premium; it costs 41 % of"
        in text_shown
    )
    assert "✓ Certified" in text_shown
    assert "95 % interval −2.2 to +0.8" in text_shown
    assert "$0.193 per 1,000 prompts" in text_shown


def test_a_refused_certificate_looks_refused() -> None:
    """A refusal says so in headline, badge and certificate, with the rows it would need, and never certified."""
    page = write.render(sample(certified=False))
    tree = check(page)
    text_shown = tree.text()
    assert "Refused: the promise could not be certified" in text_shown
    assert "About 4,210 graded rows would be needed; there were 681." in text_shown
    assert "✕ Not certified" in text_shown
    assert "✓" not in text_shown
    assert "confidence the cascade loses" not in text_shown
    assert any(a.get("class") == "certificate refused" for a in tree.named("div"))


@pytest.mark.parametrize("certified", [False, None])
def test_only_true_certifies(certified: bool | None) -> None:
    """A certificate that is unknown, or whose need is unknown, is refused and never reads as certified."""
    findings = sample()
    findings["certificate"] = {"certified": certified, "needed_n": None}
    text_shown = check(write.render(findings)).text()
    assert "✓" not in text_shown
    assert "How many graded rows would be needed is unknown." in text_shown


def test_a_promise_without_a_certificate_is_not_certified() -> None:
    """Where nothing was tested the page says "No certificate" and that the promise was not tested."""
    findings = sample()
    del findings["certificate"]
    text_shown = check(write.render(findings)).text()
    assert "No certificate" in text_shown
    assert "Promised, but not tested: the cascade loses at most 3.0 points" in text_shown
    assert "✓" not in text_shown


@pytest.mark.parametrize(
    ("kind", "value", "clause"),
    [
        ("max_loss", 0.005, "loses at most 0.5 points of quality against premium"),
        ("min_quality", 0.8, "reaches a quality of at least 80.0 %"),
        ("budget", 0.25, "costs at most $0.25 per 1,000 prompts"),
        ("selective", 0.05, "at most 5.0 % of the answers that the cascade accepts are wrong"),
    ],
)
def test_every_promise_has_its_words(kind: str, value: float, clause: str) -> None:
    """Each kind of promise is worded in its own unit."""
    findings = sample()
    findings["promise"] = {"kind": kind, "value": value, "delta": 0.1}
    assert clause in check(write.render(findings)).text()


def test_hostile_text_stays_text() -> None:
    """Markup, quotes, template signs and forbidden characters in any text of the findings change no element of the page."""

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k if k in keys else k + HOSTILE: spoil(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v, key) for v in value]
        return value + HOSTILE if isinstance(value, str) and key != "kind" else value

    findings = sample()
    keys = set(findings) | {k for part in ("chosen", "certificate", "promise", "recording") for k in findings[part]}
    keys |= {k for part in ("lines", "frontier", "calibration", "flow", "by_task", "mistakes") for k in findings[part][0]}
    keys |= {"before", "after", "confidence", "correct", "low", "high", "edges", "right", "wrong", *findings["n"]}
    keys |= set(findings["calibration"][0]["before"])
    clean, spoiled = check(write.render(findings)), check(write.render(spoil(findings)))
    assert {tag for tag, _ in spoiled.tags} == {tag for tag, _ in clean.tags}
    assert len(spoiled.named("details")) == len(clean.named("details"))
    assert "<script>alert(1)</script>" in spoiled.text()
    assert "$style ${body}" in spoiled.text()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_shown_as_it_is(prompt: str, name: str) -> None:
    """Whatever a prompt holds, the page stays well formed and shows it with only forbidden characters replaced."""
    findings = {"version": 1, "chosen": {}, "lines": [{"name": name}], "mistakes": [{"prompt": prompt}]}
    text_shown = [data for tag, data in check(write.render(findings)).words if tag == "pre"]
    ours = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", prompt)
    assert "".join(text_shown) == ours


OPTIONAL = sorted(set(sample()) - {"version", "chosen", "lines"})


def _subsets() -> Iterator[tuple[str, ...]]:
    for size in (0, 1, len(OPTIONAL) - 1):
        yield from combinations(OPTIONAL, size)


def test_missing_parts_leave_their_sections_out() -> None:
    """With no part, one part alone, or one part missing or None, the page is whole and no empty section remains."""
    part_of = {
        "certificate": "certificate", "flow": "flow", "calibration": "calibration", "by_task": "tasks",
        "mistakes": "mistakes", "notes": "notes",
    }  # fmt: skip
    full = sample(tasks=2, mistakes=1)
    for subset in _subsets():
        missing = {key: None for key in OPTIONAL if key not in subset and len(subset) % 2}
        findings = {k: v for k, v in full.items() if k in subset or k not in OPTIONAL} | missing
        present = check(write.render(findings)).sections()
        for key, section in part_of.items():
            assert (section in present) == (key in subset), (subset, section)
        assert "table" in present
        assert "frontier" in present


def test_unknown_figures_are_dashes_and_never_zero() -> None:
    """None, NaN and infinity in every figure of the findings give a page with dashes, and no invented 0."""
    for unknown in (None, math.nan, math.inf):

        def forget(value: Any, unknown: float | None = unknown) -> Any:
            if isinstance(value, dict):
                return {k: v if k in {"version", "edges", "right", "wrong"} else forget(v) for k, v in value.items()}
            if isinstance(value, list):
                return [forget(v) for v in value]
            return unknown if isinstance(value, float | int) and not isinstance(value, bool) else value

        findings = forget(sample())
        findings["seed"] = None
        text_shown = check(write.render(findings)).text()
        del findings["calibration"]
        tables = check(write.render(findings))
        assert "–" in text_shown
        assert not [data for tag, data in tables.words if tag in {"td", "dd"} and re.fullmatch(r"[$+−]?0(\.0+)?( %)?", data)]
        assert "has an unknown cost" in text_shown
        assert not re.search(r"(?i)\b(nan|inf|infinity)\b", text_shown)


def test_an_unknown_cost_is_not_drawn_but_named() -> None:
    """A line without a cost has no place on the chart; the chart says so, and the table still has its row."""
    findings = sample()
    findings["lines"][5]["relative_cost"] = None
    tree = check(write.render(findings))
    assert "Cost or quality unknown, not drawn: best pair." in tree.text()
    assert sum(a.get("title") == "best pair" for a in tree.named("span")) == 1


def test_losing_comparisons_stay_in_the_table() -> None:
    """All nine lines are rows, in the given order, also those that beat the cascade."""
    findings = sample()
    findings["lines"][4].update(quality=0.99, relative_cost=0.01)
    page = write.render(findings)
    rows = re.findall(r'<tr[^>]*><th scope="row"><span title="([^"]*)">', page.split('id="table"')[1].split("</section>")[0])
    assert rows == [line["name"] for line in findings["lines"]]


@pytest.mark.parametrize("tiers", [1, 2, 5])
def test_a_ladder_of_any_length(tiers: int) -> None:
    """One tier, a pair, and five tiers with long names give complete pages; thresholds are drawn between the tiers."""
    names = [f"provider/model-with-a-long-name-{i}-2026-01-01" for i in range(tiers)]
    findings = sample()
    findings["tiers"] = names
    findings["chosen"] |= {"tiers": names, "thresholds": [0.5 + i / 10 for i in range(tiers - 1)], "judges": {}}
    findings["lines"] = [
        {"name": n, "kind": "tier", "quality": 0.5 + i / 10, "relative_cost": (i + 1) / tiers} for i, n in enumerate(names)
    ]
    findings["flow"] = [{"source": "prompts", "target": names[0], "n": 100}]
    findings["flow"] += [{"source": a, "target": b, "n": 50} for a, b in pairwise(names)]
    findings["flow"] += [{"source": name, "target": f"answered by {name}", "n": 50} for name in names]
    tree = check(write.render(findings))
    assert sum(a.get("class") == "arrow" for a in tree.named("span")) == tiers - 1
    assert "flow" in tree.sections()


def test_thresholds_by_task_are_shown_below_the_ladder() -> None:
    """A row a task: where each tier passes a prompt on, or that it is not asked."""
    findings = sample()
    first, *_ = findings["chosen"]["tiers"]
    findings["chosen"]["by_task"] = {first: {"sums <b>": 0.25, "contracts": "skip", "mail": 0.0}}
    page = write.render(findings)
    check(page)
    table = page.split('aria-label="Thresholds by task"')[1].split("</table>")[0]
    cells = dict(re.findall(r'<span title="([^"]*)">[^<]*</span></th><td data-label="[^"]*">([^<]*)</td>', table))
    sums = {"sums &lt;b&gt;": "passed on below 25.0\xa0%"}
    assert cells == {"contracts": "not asked", "mail": "passed on where vetoed", **sums}
    assert "The thresholds shown are for tasks that were not recorded" in page
    assert "Thresholds by task" not in write.render(sample())


def test_tiers_that_the_prompt_rules_out_are_shown() -> None:
    """The ladder says when a tier is not asked and how often; the flow has a place for it in the tier's own row."""
    findings = sample()
    findings["chosen"] |= {"tiers": ["small", "large"], "thresholds": [0.5], "judges": {}}
    findings["chosen"] |= {"skip_below": {"small": 0.375}, "skipped": {"small": 0.4}}
    counts = {("prompts", "small"): 60, ("prompts", "not asked: small"): 40, ("small", "large"): 20}
    counts |= {("not asked: small", "large"): 40, ("small", "answered by small"): 40, ("large", "answered by large"): 60}
    findings["flow"] = [{"source": a, "target": b, "n": n} for (a, b), n in counts.items()]
    page = write.render(findings)
    check(page)
    assert "not asked where the prompt gives it less than 37.5\xa0%: 40.0\xa0% of the test prompts" in page
    drawings = page.split('id="flow"')[1].split("</section>")[0]
    assert drawings.count(">not asked: small</text>") == 2
    assert drawings.count("not asked: small → large: 40") == 2
    places = layout([Link(a, b, n) for (a, b), n in counts.items()], 250.0, 40.0)
    assert places["not asked: small"].row == places["small"].row == 1
    assert "not asked" not in write.render(sample())


def test_many_tasks_are_all_in_the_table_worst_first() -> None:
    """Sixty tasks are sixty rows, the largest loss first, unknown differences last, with sortable figures in full."""
    findings = sample(tasks=60)
    findings["by_task"][7]["difference"] = None
    page = write.render(findings)
    check(page)
    body = page.split('id="tasks"')[1].split("</tbody>")[0].split("<tbody>")[1]
    rows = [re.findall(r'data-value="([^"]*)"', row) for row in body.split("<tr>")[1:]]
    differences = [float(row[3]) for row in rows if row[3]]
    assert len(rows) == 60
    assert rows[-1][3] == ""
    assert differences == sorted(f["difference"] for f in findings["by_task"] if f["difference"] is not None)


def test_no_mistakes_is_said_and_not_left_out() -> None:
    """An empty list of mistakes is a finding; a missing list is not."""
    findings = sample(mistakes=0)
    assert "No accepted answer of the test rows was wrong." in check(write.render(findings)).text()
    del findings["mistakes"]
    assert "mistakes" not in check(write.render(findings)).sections()


def test_long_texts_are_cut_and_the_cut_is_told() -> None:
    """A prompt of a megabyte does not enlarge the page, which states how much was left out."""
    findings = sample(mistakes=1)
    findings["mistakes"][0]["prompt"] = "a" * 1_000_000
    page = write.render(findings)
    assert "… 980,000 more characters" in page
    assert len(page) < len(write.render(sample(mistakes=1))) + 25_000


def test_a_long_frontier_stays_small() -> None:
    """Thousands of Pareto points are one path without a mark each."""
    findings = sample()
    findings["frontier"] = [{"cost_ratio": i / 5000, "quality": 0.7 + 0.1 * i / 5000} for i in range(1, 5001)]
    page = write.render(findings)
    check(page)
    assert "step tip" not in page
    assert "step tip" in write.render(sample())


def test_numpy_figures_and_json_give_the_same_page() -> None:
    """Numpy scalars are numbers, and findings that went through JSON render to the same bytes."""
    findings = sample()
    page = write.render(findings)
    assert write.render(json.loads(json.dumps(findings))) == page
    findings["chosen"]["quality"] = np.float64(findings["chosen"]["quality"])
    findings["n"] = {name: np.int64(count) for name, count in findings["n"].items()}
    assert write.render(findings) == page


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, ValueError),
        ({"version": None}, ValueError),
        ({"chosen": None}, ValueError),
        ({"lines": None}, ValueError),
    ],
)
def test_findings_that_cannot_be_read_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    """Another version or a missing required part is an error that names it."""
    with pytest.raises(error, match=re.escape(next(iter(change)))):
        write.render(sample() | change)


def test_a_word_in_the_place_of_a_number_is_an_error() -> None:
    """Text and booleans are not figures: they are refused, not shown."""
    for wrong in ("0.5", True):
        findings = sample()
        findings["lines"][0]["quality"] = wrong
        with pytest.raises(TypeError, match="expected a number"):
            write.render(findings)


def test_write_replaces_the_file_whole(tmp_path: Path) -> None:
    """The written file is the rendered page in UTF-8, and nothing else stays in the folder."""
    target = tmp_path / "report.html"
    target.write_text("old")
    write.write(target, sample())
    assert target.read_bytes() == write.render(sample()).encode()
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rendering or the last step fails, the old file stays as it was and no temporary file is left."""
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(ValueError, match="version"):
        write.write(target, {"version": 0})

    def full(*_: object) -> None:
        raise OSError("no space left")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, full)
            with pytest.raises(OSError, match="no space"):
                write.write(target, sample())
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(60, 900), st.floats(30, 400), st.integers(1, 24)), min_size=1, max_size=9), st.booleans()
)
@example([(593.0, 273.0, 16), (593.0, 277.0, 16), (463.0, 250.0, 16), (593.0, 279.0, 16), (325.0, 273.0, 17)], False)
def test_labels_never_cover_each_other(spots: list[tuple[float, float, int]], bold: bool) -> None:
    """Up to nine labels of usual length, however close their points, neither overlap nor leave the chart."""
    labels = [Label("x" * n, x, y, bold and i == 0) for i, (x, y, n) in enumerate(spots)]
    placed = place(labels, (58, 18, 1038, 415), [])
    for a, b in combinations(placed, 2):
        assert a.box[2] <= b.box[0] or b.box[2] <= a.box[0] or a.box[3] <= b.box[1] or b.box[3] <= a.box[1]
    for spot in placed:
        assert spot.box[0] >= 58
        assert spot.box[1] >= 18
        assert spot.box[2] <= 1038
        assert spot.box[3] <= 415


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.integers(1, 1000))
def test_the_flow_keeps_its_counts(answered: list[int], rest: int) -> None:
    """In any ladder each node's size is proportional to its count, no row is too wide, and nodes of a row do not touch."""
    flow_links, left = [], sum(answered) + rest
    for i, n in enumerate(answered):
        left -= n
        flow_links += [Link(f"t{i}", f"a{i}", n)] * (n > 0) + [Link(f"t{i}", f"t{i + 1}", left)]
    places = layout(flow_links, 250.0, 40.0)
    total = places["t0"]
    assert total.n == sum(answered) + rest
    for node in places.values():
        assert node.size == pytest.approx(max(node.n * total.size / total.n, 1.0))
        assert node.start + node.size <= 250.0 + 2
    for a, b in combinations(places.values(), 2):
        assert a.row != b.row or a.start + a.size + 39.9 <= b.start or b.start + b.size + 39.9 <= a.start
    for i in range(len(answered)):
        assert places[f"t{i + 1}"].row == i + 1


def test_a_flow_in_a_circle_is_left_out() -> None:
    """A flow that returns to its source has no order of rows; the section is left out."""
    assert layout([Link("a", "b", 1), Link("b", "a", 1)], 100, 10) == {}
    findings = sample() | {"flow": [{"source": "a", "target": "b", "n": 1}, {"source": "b", "target": "a", "n": 1}]}
    assert "flow" not in check(write.render(findings)).sections()


def test_wide_costs_get_a_logarithmic_axis() -> None:
    """Costs that span more than twentyfold are drawn by logarithm, others not; a cost of zero has its place at the start."""
    assert "log scale" not in write.render(sample())
    findings = sample()
    findings["lines"][0]["relative_cost"] = 0.01
    assert "log scale" in write.render(findings)
    findings["lines"][0]["relative_cost"] = 0.0
    findings["frontier"] = [{"cost_ratio": 0.004, "quality": 0.7}]
    page = write.render(findings)
    check(page)
    assert re.search(r'<text[^>]*class="axis">0</text>', page)


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 1e3), st.floats(1.05, 1e6), st.booleans(), st.integers(2, 9))
def test_ticks_stand_inside_the_axis(low: float, factor: float, log: bool, count: int) -> None:
    """Ticks rise, lie inside the axis and are few; an axis maps its ends to its pixels."""
    axis = Axis(low, low * factor, 10.0, 110.0, log)
    ticks = axis.ticks(count)
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-9) <= tick <= low * factor * (1 + 1e-8) for tick in ticks)
    assert len(ticks) <= (count if log else 2 * count + 1)
    assert axis.at(low) == pytest.approx(10.0)
    assert axis.at(low * factor) == pytest.approx(110.0)


@pytest.mark.parametrize(
    ("text_shown", "expected"),
    [
        (percent(0.8199), "82.0\xa0%"), (percent(None), "–"), (percent(0.0), "0.0\xa0%"), (percent(-0.0001), "0.0\xa0%"),
        (share(0.41), "41\xa0%"), (share(0.004), "0.4\xa0%"), (share(0), "0\xa0%"), (share(1.0), "100\xa0%"),
        (points(-0.0123), "−1.2"), (points(0.0123), "+1.2"), (points(0.00001), "0.0"), (points(math.nan), "–"),
        (usd(0), "$0"), (usd(0.1927), "$0.193"), (usd(1234.5), "$1,234.50"), (usd(0.00001234), "$0.0000123"),
        (usd(None), "–"), (usd(0.25), "$0.25"), (usd(-3), "−$3.00"), (usd(12_500), "$12,500.00"),
        (plain(12345.678, 1), "12,345.7"), (clip("a  b\nc", 9), "a b c"), (clip("abcdef", 4), "abc…"),
        (text(None), "–"), (text("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#x27;"), (text(0), "0"),
        (element("br", None), "<br/>"),
        (element("p", "x", class_="a\"b", data_n=1.0, id=None), '<p class="a&quot;b" data-n="1">x</p>'),
    ],
)  # fmt: skip
def test_words_for_numbers(text_shown: str, expected: str) -> None:
    """Each figure has one way to be written: true minus, hard space before %, no negative zero, no powers of ten."""
    assert text_shown == expected


def test_numbers_are_numbers() -> None:
    """Integers, floats and numpy scalars are read; what is not finite is unknown."""
    assert [number(v) for v in (1, 0.5, np.float32(0.5), np.int64(3), math.inf, math.nan, None)] == [
        1,
        0.5,
        0.5,
        3,
        None,
        None,
        None,
    ]
