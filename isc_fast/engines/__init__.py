"""From pixels to unit vectors: engine files, what they say of themselves, and what runs them."""
