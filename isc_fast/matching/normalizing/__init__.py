"""Methods of normalising: subtraction of negatives, their smoothing, and normalised scores."""
