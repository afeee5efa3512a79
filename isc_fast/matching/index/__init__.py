"""An index on the disk: descriptors that come and go, asked for a few queries at a time."""
