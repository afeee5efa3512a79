"""What a stage trains on, and in which order."""
