"""Training: the loop, its checkpoints and its device layout."""
