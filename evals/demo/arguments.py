"""The arguments of ``python -m evals.demo``."""

from cascade.util.argument_parser import CommandParser


def parser(prog: str = "python -m evals.demo") -> CommandParser:
    """The command line's parser."""
    parser = CommandParser(prog=prog, description="A cascade live on this machine, without a key.")
    parser.add_argument("--questions", type=int, default=7, help="how many of the shipped questions (default 7)")
    parser.add_argument("--seed", type=int, default=1, help="which of them (default 1)")
    return parser
