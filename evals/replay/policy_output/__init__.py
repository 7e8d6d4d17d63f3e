"""A replay of a policy of one's own: reads it from its file, and writes the policy that uses the calibration."""
