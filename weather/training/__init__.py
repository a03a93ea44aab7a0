"""Training: what `learning` needs to know of weather, and a run's way through it."""
