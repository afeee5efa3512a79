"""Files that appear whole or not at all, temporary files, and sequences that are read from disk as they are asked for."""
