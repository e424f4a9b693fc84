"""`invoke doctor --check`: whether the training step is right and fast on the device at hand, in minutes."""
