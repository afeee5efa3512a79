"""This package decides what a stage trains on, and in which order."""
