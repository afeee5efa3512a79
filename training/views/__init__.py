"""Views: what happens to a photo before the network sees it in training."""
