"""When two answers say the same: canonical keys of numbers, choices, JSON, dates and text.

Two answers are the same when their keys are equal, so sameness is an equivalence relation and clusters are well defined.
Every function takes any text, never raises for one, and takes time linear in its length.
"""

from .canonical import canonical_json
from .final_answer import final_answer
from .keys import KINDS, LONGEST, key, same
from .numbers import last_number, stated_number

__all__ = ["KINDS", "LONGEST", "canonical_json", "final_answer", "key", "last_number", "same", "stated_number"]
