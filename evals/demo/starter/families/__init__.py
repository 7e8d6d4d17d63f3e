"""The families of questions, one a file; each has ``rows(rng)``, which yields prompt, reference and perhaps schema."""

from . import arithmetic, dates, extraction, facts, languages, support, words

# The family's name is the row's ``task``.
FAMILIES = {
    "arithmetic": arithmetic.rows,
    "date": dates.rows,
    "extraction": extraction.rows,
    "support": support.rows,
    "fact": facts.rows,
    "language": languages.rows,
    "words": words.rows,
}
