"""Grades sampled runs and anchors, which people judged, for the loss against the premium tier."""
