"""The edits that turn photos into copies which a search has to find."""
