"""Lower precisions: rounding, mixing, and the accuracy gate."""
