"""What a server refuses of a request, found by its first error 400, remembered, and said once in the log.

Some models take no temperature but their own; some servers know only one of ``max_tokens`` and ``max_completion_tokens``.
"""

import logging
import re
from dataclasses import dataclass, field
from typing import Any

from .protocol import ModelError

log = logging.getLogger("cascade.models")

_REFUSALS = frozenset((400, 404, 422))  # 404: OpenRouter, where no provider takes the parameters
_REFUSED = re.compile(
    r"unsupported|not (?:be )?(?:supported|support|allowed|permitted)|(?:does|do|can)\s?n[o']t (?:support|accept|allow|be)"
    r"|cannot be|unrecognized|unknown|unexpected|extra (?:input|field|param)|forbidden|deprecated|removed|fixed"
    r"|only (?:the default|1\b|1\.0)"
    r"|must be (?:set to |equal to )?(?:1\b|1\.0|the default|omitted|unset)|(?:may|can) only be set to 1\b|no longer",
    re.IGNORECASE,
)
# Of a value that is out of range, or that does not go with another parameter of this one request.
_OTHERWISE = re.compile(
    r"\bboth\b|thinking|between|less than|greater than|range|maximum|minimum|at most|at least|<=|>=|≤|≥", re.IGNORECASE
)
_FIELDS = ("max_tokens", "max_completion_tokens")
_MOST_READ = 2_000  # characters of a message


@dataclass(slots=True)
class Adaptation:
    """What is known of one model's server.

    Args:
        name: The model's name in the policy, for the log.
        max_tokens_field: The field for the most tokens of an answer; None: the dialect has one only.

    Attributes:
        fixed_temperature: Whether it takes no temperature.
    """

    name: str
    max_tokens_field: str | None = None
    fixed_temperature: bool = field(init=False, default=False)
    _switched: bool = field(init=False, default=False)

    def learn(self, error: ModelError) -> bool:
        """Whether an error says something new, so that the request is to be sent again in another way."""
        if error.status not in _REFUSALS:
            return False
        message = str(error)[:_MOST_READ]
        if "max_tokens" in message or "max_completion_tokens" in message:
            return self._learn_field(message)
        if not self.fixed_temperature and "temperature" in message.lower() and _is_refused(message):
            self.fixed_temperature = True
            log.warning(
                "%s: the model takes no temperature of a request; requests are sent without it from now on", self.name
            )
            return True
        return False

    def _learn_field(self, message: str) -> bool:
        field_name = self.max_tokens_field
        if field_name is None or self._switched or not re.search(rf"\b{field_name}\b", message) or not _is_refused(message):
            return False
        self._switched, self.max_tokens_field = True, _FIELDS[1 - _FIELDS.index(field_name)]
        log.warning("%s: the server does not know %s; requests have %s", self.name, field_name, self.max_tokens_field)
        return True

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body without what the server refuses; changed in place."""
        if self.fixed_temperature:
            body.pop("temperature", None)
        return body

    @property
    def ignored(self) -> tuple[str, ...]:
        """Fields of requests that the model is called without."""
        return ("temperature",) if self.fixed_temperature else ()


def _is_refused(message: str) -> bool:
    return _REFUSED.search(message) is not None and not _OTHERWISE.search(message)
