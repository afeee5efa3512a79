"""Pairs looked at again in their pixels: whether they show the same scene, and where."""
