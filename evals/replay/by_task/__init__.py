"""Thresholds by task: one ladder, where each task has its own thresholds and skips the tiers that do not pay."""
