"""The networks: checkpoints, published weights, presets. Most of it needs torch; nothing in the runtime imports it."""
