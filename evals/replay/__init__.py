"""Replay a recording: calibrate the confidence, tune the thresholds, certify the result."""

from cascade.util.extras import needed_by

with needed_by("evals.replay"):
    import numpy  # noqa: F401  # every module of this package needs it: one sentence here, not a traceback in each
