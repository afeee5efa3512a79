"""Measuring how good matches are: the metrics, and the edits that make copies to measure with."""
