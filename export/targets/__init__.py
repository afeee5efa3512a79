"""What an engine can be exported to."""
