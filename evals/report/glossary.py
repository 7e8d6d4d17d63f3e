"""The meanings of the report's terms: on hover in the heads of tables, and all of them at the end of the page."""

import re
from collections.abc import Mapping
from typing import Any

from .markup import element, text

TERMS: dict[str, str] = {
    "AURC": "Area under the risk-coverage curve: the mean error when answers are accepted from the surest down. Lower is "
    "better.",
    "AUROC": "Area under the receiver operating characteristic: how often a right answer has a higher confidence than a "
    "wrong one. 0.5 is chance, 1 is perfect.",
    "Brier score": "Mean squared difference between confidence and outcome (1 right, 0 wrong). Lower is better.",
    "ECE": "Expected calibration error: the mean distance between confidence and share of right answers, over bins of equal "
    "size. Lower is better.",
    "Log loss": "Mean negative logarithm of the probability given to what happened. Lower is better.",
    "SHA-256": "A fingerprint of the recording's file: another file has another one.",
    "TF-IDF": "Term frequency, inverse document frequency: how often a word stands in a prompt, weighed by how rare it is.",
    "USD": "US dollars.",
    "p95": "95th percentile: 95 of 100 prompts take at most this long.",
    "95 % interval": "Repeated on other rows, 95 of 100 such intervals would contain the true value.",
    "p-value": "The probability of a result at least this good if the promise were just broken.",
    "points": "Percentage points of mean quality: from 0.90 to 0.88 are 2 points.",
    "premium": "The last tier alone, asked every prompt: what cost and quality are compared with.",
    "oracle": "Takes the cheapest right answer of each prompt, which cannot be known beforehand: a bound, not a choice.",
    "random mixing": "Sends prompts to single tiers at random, in the shares that give the cascade's cost.",
    "cascade routing": "Asks next whichever model is expected to add most to the best answer so far for its cost.",
    "cascade without skips": "The cascade tuned for the same promise without looking at the prompt.",
    "prompt-only router": "Chooses the tier from the prompt's text alone, before anything is asked.",
    "veto": "A judge forbids an answer, whatever its confidence: a broken schema, a refusal, a cut text.",
    "Bonferroni": "Divides the error probability by the number of statements, so that all hold at once.",
}

_ABBREVIATION = re.compile(rf"\b({'|'.join(re.escape(term) for term in TERMS if term.isupper())})\b")


def explained(words: str) -> str:
    """Words as markup, the first term in them with its meaning on hover."""
    for term, meaning in TERMS.items():
        before, match, after = words.partition(term)
        if match:
            return text(before) + element("abbr", text(term), title=meaning, tabindex="0") + text(after)
    return text(words)


def with_abbreviations(words: str) -> str:
    """Words as markup, every abbreviation in them with its meaning on hover."""
    parts = _ABBREVIATION.split(words)
    return "".join(
        element("abbr", text(part), title=TERMS[part], tabindex="0") if i % 2 else text(part) for i, part in enumerate(parts)
    )


def glossary(findings: Mapping[str, Any]) -> str:
    """All terms with their meanings, closed until opened."""
    entries = "".join(
        element("dt", text(term)) + element("dd", text(TERMS[term])) for term in sorted(TERMS, key=str.casefold)
    )
    summary = element("summary", element("span", "What the words and abbreviations of this page mean"))
    return element("details", summary + element("dl", entries, class_="facts"), class_="plain")
