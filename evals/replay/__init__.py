"""Replay a recording: calibrate the confidence, tune the thresholds, certify the result."""
