"""Tables of the report: terms explained in their heads, scrolling inside themselves."""

from collections.abc import Sequence

from .glossary import explained
from .markup import element


def table(heads: Sequence[str], rows: Sequence[str], name: str, class_: str | None = None, tall: bool = False) -> str:
    """A table that scrolls inside itself."""
    head = element(
        "thead", element("tr", "".join(element("th", explained(h), scope="col") if h else "<td></td>" for h in heads))
    )
    body = element("table", head + element("tbody", "".join(rows)), class_=class_)
    return element("div", body, class_="scroll tall" if tall else "scroll", role="region", aria_label=name, tabindex="0")
