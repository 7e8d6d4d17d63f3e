"""Replay a recording: calibrate the confidence, tune the thresholds, certify the result."""

from cascade.util.extras import needed_by, require

with needed_by("evals.replay"):
    require("numpy")  # every module that computes needs it: one sentence here, not a traceback in each
