"""Where photos come from: an input becomes a list of items with stable ids."""
