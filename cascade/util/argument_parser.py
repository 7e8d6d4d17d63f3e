"""argparse's parser, which suggests an option for one that it does not know."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from .suggestions import nearest


class CommandParser(argparse.ArgumentParser):
    """Adds "did you mean" to the error for an unknown option. Parsers of subcommands are of this class, too."""

    def parse_args(  # type: ignore[override]  # one signature in place of the overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """See argparse. An unknown option ends the program with status 2 and one line that suggests the nearest option."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            hint = next(filter(None, (nearest(name, _options(self)) for name in names)), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _options(subparser)
