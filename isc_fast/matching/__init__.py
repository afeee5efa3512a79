"""From descriptors to matches: exact search, and normalisation by negatives."""
