"""Edits that make copies of photos."""
