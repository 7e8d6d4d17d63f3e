"""Dates in an answer."""

import re
from datetime import date

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
MONTH_NAME = re.compile(_MONTH, re.IGNORECASE)
DATE = re.compile(
    r"(?<!\w)(?:(?P<iso>(\d{4})([-/])(\d{1,2})\3(\d{1,2})(?:T[\d:.]{1,20}(?:Z|[-+]\d\d:?\d\d)?)?)"
    r"|(?P<slash>(\d{1,2})/(\d{1,2})/(\d{4}))|(?P<dot>(\d{1,2})\.(\d{1,2})\.(\d{4}))"
    rf"|(?P<month>{_MONTH}[ ]?(\d{{1,2}})(?:st|nd|rd|th)?,?[ ]?(\d{{4}}))"
    rf"|(?P<day>(\d{{1,2}})(?:st|nd|rd|th)?[ -]?(?:of[ ])?{_MONTH},?[ -]?(\d{{4}})))(?!\w)"
    # Chinese, Japanese and Korean, where no space divides words.
    r"|(?<!\d)(?P<signs>(\d{4})[ ]?[年년][ ]?(\d{1,2})[ ]?[月월][ ]?(\d{1,2})[ ]?[日号일])",
    re.IGNORECASE,
)


def day_of(match: re.Match[str]) -> str | None:
    written = match.lastgroup
    groups = [group for group in match.groups()[1:] if group is not None and group not in "-/"]
    if written == "iso":
        year, month, day = (int(g) for g in groups[:3])
    elif written == "signs":
        year, month, day = (int(g) for g in groups[-3:])
    elif written in ("slash", "dot"):
        first, second, year = (int(g) for g in groups[-3:])
        day_first = written == "dot" or (first > 12 and second <= 12)
        day, month = (first, second) if day_first else (second, first)
    else:
        month_name, day_text, year = groups[-3], groups[-2], int(groups[-1])
        if written == "day":
            month_name, day_text = day_text, month_name
        month, day = _MONTHS.index(month_name[:3].lower()) + 1, int(day_text)
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
