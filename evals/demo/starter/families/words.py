"""Forms of English words, as a search index or a form letter needs them; written by hand, one accepted form each."""

import random
from collections.abc import Iterator

from evals.demo.starter.row import Row, conversation

PLURALS = (
    *(("apple", "apples"), ("box", "boxes"), ("child", "children"), ("city", "cities"), ("tooth", "teeth")),
    *(("knife", "knives"), ("order", "orders"), ("baby", "babies"), ("mouse", "mice"), ("glass", "glasses")),
    *(("invoice", "invoices"), ("delivery", "deliveries"), ("woman", "women"), ("shelf", "shelves"), ("watch", "watches")),
    *(("country", "countries"), ("leaf", "leaves"), ("brush", "brushes"), ("toy", "toys"), ("goose", "geese")),
    *(("tomato", "tomatoes"), ("half", "halves"), ("bus", "buses"), ("key", "keys"), ("man", "men"), ("wife", "wives")),
    *(("company", "companies"), ("ox", "oxen"), ("crisis", "crises"), ("dish", "dishes")),
)
PASTS = (
    *(("go", "went"), ("buy", "bought"), ("pay", "paid"), ("walk", "walked"), ("take", "took"), ("see", "saw")),
    *(("order", "ordered"), ("send", "sent"), ("write", "wrote"), ("break", "broke"), ("try", "tried"), ("stop", "stopped")),
    *(
        ("give", "gave"),
        ("find", "found"),
        ("bring", "brought"),
        ("open", "opened"),
        ("choose", "chose"),
        ("think", "thought"),
    ),
    *(
        ("arrive", "arrived"),
        ("drive", "drove"),
        ("sell", "sold"),
        ("teach", "taught"),
        ("carry", "carried"),
        ("begin", "began"),
    ),
)
COMPARATIVES = (
    *(
        ("small", "smaller"),
        ("big", "bigger"),
        ("cheap", "cheaper"),
        ("good", "better"),
        ("bad", "worse"),
        ("easy", "easier"),
    ),
    *(
        ("hot", "hotter"),
        ("large", "larger"),
        ("happy", "happier"),
        ("fast", "faster"),
        ("thin", "thinner"),
        ("safe", "safer"),
    ),
    *(
        ("heavy", "heavier"),
        ("young", "younger"),
        ("wet", "wetter"),
        ("early", "earlier"),
        ("nice", "nicer"),
        ("long", "longer"),
    ),
)
_TEMPLATES = ("What is the plural of {}?", "What is the past tense of {}?", "What is the comparative of {}?")
_SHOTS = (_TEMPLATES[0].format("car"), "cars", _TEMPLATES[1].format("run"), "ran", _TEMPLATES[2].format("tall"), "taller")


def rows(rng: random.Random) -> Iterator[Row]:
    """Every word once."""
    for template, pairs in zip(_TEMPLATES, (PLURALS, PASTS, COMPARATIVES), strict=True):
        for word, form in pairs:
            yield {"prompt": conversation(*_SHOTS, template.format(word)), "reference": form}
