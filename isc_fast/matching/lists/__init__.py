"""Lists of pairs: files of matches, and what people said of pairs."""
