"""The sides of a comparison: photos that are described, what is known of them, and which score counts as a copy."""
