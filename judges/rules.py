"""Plain rules: empty, truncated, refused, not one of the choices, wrong pattern or length. Each break is a veto."""

from dataclasses import dataclass, field

from .patterns import compiled, is_found
from .protocol import JudgeInput
from .reading import is_complete, is_refusal
from .reading.normal_form import compatible
from .types import Answer, Verdict

PATTERN_SECONDS = 0.05
_INCOMPLETE = {"length": "length limit was reached", "content_filter": "content filter stopped it"}
_OUTER = ".,;:!?\"'`*_()[]{}“”‘’ "


@dataclass(frozen=True)
class RulesJudge:
    """Vetoes an answer that breaks a rule; gives no score. Every veto's reason begins with the rule's name.

    ``empty``, ``refusal`` and ``truncated`` (a finish reason other than ``stop`` and ``tool_calls``) are on by default.
    ``choices``: the answer must be one of them, case and outer punctuation aside. ``pattern``: must be found in the text; a
    search of over 50 ms of CPU time is a veto. ``min_chars`` and ``max_chars`` bound the length of the stripped text. An
    answer of tool calls alone is only judged by ``truncated``. Raises ValueError for a wrong option.
    """

    refusal: bool = True
    empty: bool = True
    truncated: bool = True
    choices: tuple[str, ...] | None = None
    pattern: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    name: str = "rules"
    only_vetoes: bool = True
    _choice_keys: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    _longest: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        for option in ("refusal", "empty", "truncated"):
            if not isinstance(getattr(self, option), bool):
                raise ValueError(f"{option} must be true or false, got {getattr(self, option)!r}")
        if self.choices is not None:
            is_list = isinstance(self.choices, (list, tuple)) and all(isinstance(c, str) and c.strip() for c in self.choices)
            if not is_list or not self.choices:
                raise ValueError(f"choices must be a list of one or more texts, got {self.choices!r}")
            object.__setattr__(self, "choices", tuple(self.choices))
            object.__setattr__(self, "_choice_keys", frozenset(map(_fold, self.choices)))
            object.__setattr__(self, "_longest", 4 * max(map(len, self.choices)))
        if self.pattern is not None:
            if not isinstance(self.pattern, str):
                raise ValueError(f"pattern must be a text, got {self.pattern!r}")
            try:
                compiled(self.pattern)
            except ValueError as error:
                raise ValueError(f"pattern is {error}") from None
        for option in ("min_chars", "max_chars"):
            value = getattr(self, option)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ValueError(f"{option} must be a whole number from 0 on, got {value!r}")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is more than max_chars {self.max_chars}")

    def judge(self, case: JudgeInput) -> Verdict:
        """The first broken rule as a veto, or a verdict without one."""
        reason = self._broken(case.answer)
        return Verdict(self.name, veto=reason is not None, reason=reason or "")

    def _broken(self, answer: Answer) -> str | None:
        if self.refusal and answer.refusal is not None:
            return "refusal: the provider marked the answer as a refusal"
        if self.truncated and not is_complete(answer.finish_reason):
            unknown = f"finish reason {answer.finish_reason!r:.60} is unknown"
            return f"truncated: the {_INCOMPLETE.get(str(answer.finish_reason), unknown)}"
        text = answer.text.strip()
        if not text:
            if answer.tool_calls:
                return None
            if self.empty:
                return "empty: there is no text"
        if self.refusal and is_refusal(text):
            return "refusal: the model declines to answer"
        if self.choices is not None and not self._is_choice(text):
            return f"choices: not one of the {len(self.choices)}"
        if self.min_chars is not None and len(text) < self.min_chars:
            return f"min_chars: shorter than {self.min_chars} characters"
        if self.max_chars is not None and len(text) > self.max_chars:
            return f"max_chars: longer than {self.max_chars} characters"
        return self._mismatch(self.pattern, text) if self.pattern is not None else None

    def _is_choice(self, text: str) -> bool:
        if len(text) > self._longest:
            # No choice, unless it is dressed up. At most four characters are composed to one.
            text = " ".join(text.split(maxsplit=self._longest)).strip(_OUTER)
            if len(text) > self._longest:
                return False
        return _fold(text) in self._choice_keys

    def _mismatch(self, pattern: str, text: str) -> str | None:
        try:
            return None if is_found(pattern, text, PATTERN_SECONDS) else "pattern: not found"
        except TimeoutError:
            return "pattern: took too long"


def _fold(text: str) -> str:
    """Case, width, inner whitespace and outer punctuation aside; a text of punctuation alone (``+``) stays itself."""
    whole = " ".join(compatible(text).casefold().split())
    return whole.strip(_OUTER) or whole
