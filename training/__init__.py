"""This package trains the descriptor network. It needs torch and timm."""
