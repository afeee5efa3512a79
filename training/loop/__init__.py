"""This package holds the training loop: its steps, its loss, its saved state and its processes."""
