"""Rows searched exactly: what an exact result is, and what finds it on a processor or on GPUs."""
