"""Records models' answers: every tier answers every example once; ``python -m evals.record --help``."""
