"""From photos to ``uint8 (n, h, w, 3)`` RGB pixels."""
