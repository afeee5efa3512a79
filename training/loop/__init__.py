"""The training loop: steps, losses, state, processes."""
