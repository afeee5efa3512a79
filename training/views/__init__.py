"""This package makes views: the edited photos that the network sees in training."""
