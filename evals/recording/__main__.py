"""``python -m evals.recording show | merge | split | sample | import``."""

from .command import main

if __name__ == "__main__":
    raise SystemExit(main())
