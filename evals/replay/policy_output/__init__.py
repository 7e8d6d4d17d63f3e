"""Replays a policy of a policy file: reads it, and writes the policy that uses the calibration."""
