"""From a list of photos to a descriptor file: plan, shards, parts, and whoever computes them."""
