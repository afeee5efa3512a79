"""Work that is cut into tasks: interrupted runs go on with them, and workers, a Ray cluster or jobs of an array share them."""
