"""Scores -> P(correct): mappings fitted on graded rows, chosen by cross-validation, applied to whole columns."""
