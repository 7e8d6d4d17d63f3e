"""Thresholds by task: one ladder, of which each task has its own thresholds and skips the tiers that do not pay."""
