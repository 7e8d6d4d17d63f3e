"""The policy file: its schema, how it is loaded, and the calibration that it may name."""
