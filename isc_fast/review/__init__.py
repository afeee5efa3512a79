"""Pages on which people look at matches."""
