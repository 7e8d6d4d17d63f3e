"""One self-contained HTML page about a chosen cascade: its certificate, cost and quality, calibration, flow and mistakes.

``findings`` is plain data, as JSON holds it. Keys (``version``, ``chosen`` and ``lines`` are required; a missing part leaves
its section out; None means unknown and is shown as a dash, never as 0; qualities, shares and confidences lie in [0, 1]):

    version      1
    created      text; seed: int; n: {split: rows}; notes: [text]
    recording    {name, sha256, n, left_out: {reason: rows}}
    promise      {kind, value, delta}: kind "max_loss" (value: quality lost against the premium), "min_quality" (quality),
                 "budget" (USD per 1,000 prompts) or "selective" (share of wrong answers among the accepted ones)
    certificate  {certified, method, n, max_loss, delta, p_value, words, needed_n, rows_in_all}
    tiers        [name], cheapest first; the last is the premium
    chosen       {tiers, thresholds, final, judges: {tier: [name]}, cost_ratio, usd_per_1000, quality, quality_difference,
                 interval: [low, high] at 95 %}; thresholds has one value less than tiers, a cost_ratio of 1.0 is the
                 premium's cost; where tiers are skipped by the prompt, skip_below: {tier: probability} and skipped:
                 {tier: share of the test rows}
    lines        [{name, kind, quality, usd_per_1000, relative_cost, mean_s, p95_s, shares: {tier: share}, difference,
                 interval}], kind "tier", "cascade", "baseline" or "oracle"
    frontier     [{cost_ratio, quality, tiers, thresholds}], cheapest first
    calibration  [{tier, judges, method, n, before, after, reliability: {before, after}, histogram}], where before and after
                 are {metric: [value, low, high]}, reliability has bins {confidence, correct, n, low, high}, and histogram is
                 {edges, right, wrong}
    flow         [{source, target, n}]
    menu         [{max_loss, certified, tiers, loss, p_value, cost_ratio, rows_in_all}], strictest first; may be empty
    by_task      [{task, n, quality, premium_quality, difference, interval, corrected_interval, cost_ratio, shares, advice}]
    mistakes     [{id, task, tier, confidence, prompt, answer, reference, premium_answer, premium_quality}], worst first

The page loads nothing from anywhere, and its content security policy allows no script but its own. Prompts and answers are
untrusted: all text is escaped.
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from cascade.util.atomic_write import replacing

from . import evidence, sections
from .glossary import glossary
from .markup import element, text

VERSION = 1

_SECTIONS = (
    ("certificate", "Certificate", sections.certificate),
    ("frontier", "Quality over cost", sections.frontier),
    ("table", "Every way of answering", evidence.lines),
    ("flow", "From tier to tier", sections.flow),
    ("calibration", "Is the confidence honest?", evidence.calibration),
    ("tasks", "By task", evidence.by_task),
    ("mistakes", "Worst accepted mistakes", evidence.mistakes),
    ("notes", "Notes", sections.notes),
    ("reproduce", "Reproduce", sections.reproduce),
    ("glossary", "Glossary", glossary),
)


def render(findings: Mapping[str, Any]) -> str:
    """The page as text. Raises ValueError for findings of another version or without a required key, TypeError for a word
    where a number belongs."""
    if findings.get("version") != VERSION:
        raise ValueError(f"findings of version {findings.get('version')!r}; this report reads version {VERSION}")
    for key in ("chosen", "lines"):
        if findings.get(key) is None:
            raise ValueError(f"the findings have no {key!r}")
    body = [sections.header(findings)]
    for name, title, build in _SECTIONS:
        content = build(findings)
        if content:
            heading = element("h2", text(title), id=f"{name}-title")
            body.append(element("section", heading + content, id=name, aria_labelledby=f"{name}-title"))
    script = _shipped("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    recording = findings.get("recording") or {}
    return Template(_shipped("report.html")).substitute(
        title=text(f"Cascade report: {recording['name']}" if recording.get("name") else "Cascade report"),
        style=_shipped("report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        body="\n".join(body),
    )


def write(path: str | os.PathLike[str], findings: Mapping[str, Any]) -> None:
    """Writes the page as a whole or not at all: a reader sees the old file or the new one. Raises OSError, and what
    ``render`` raises; then the old file stays as it was."""
    page = render(findings).encode()
    with replacing(path) as file:
        file.write(page)


def _shipped(name: str) -> str:
    return files("evals.report").joinpath(name).read_text(encoding="utf-8").strip()
