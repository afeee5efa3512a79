"""Training the descriptor network, and reading and writing its checkpoints; needs torch and timm."""
