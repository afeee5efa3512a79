"""Copies in one collection, between two, and between training and evaluation sets: `dedup`, `find`, `leaks`."""
