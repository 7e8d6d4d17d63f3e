"""Records what models answer: every tier is asked about every example, once; ``python -m evals.record --help``."""
