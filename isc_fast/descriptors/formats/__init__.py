"""Descriptor files of other tools: one file a format, and one table."""
