"""How good matches are: metrics, and edited copies to measure with."""
