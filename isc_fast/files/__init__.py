"""Files that appear whole or not at all, temporary files, tables of images, and sequences that are read as they are used."""
