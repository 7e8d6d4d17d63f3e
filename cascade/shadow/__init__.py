"""Shadowing: for a random sample of runs, the tiers that were not asked are asked in the background."""
