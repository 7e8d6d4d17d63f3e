"""``python -m evals.recording show | merge | split | sample | import``."""

from cascade.util.broken_pipe import quietly

from .command import main

if __name__ == "__main__":
    raise SystemExit(quietly(main))
