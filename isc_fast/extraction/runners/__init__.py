"""Runners: who computes the shards of an extraction. Each way to compute is one file that keeps `base.Runner`."""
