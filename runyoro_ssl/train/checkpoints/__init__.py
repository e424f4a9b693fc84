"""Checkpoints: what is kept of a run, and how it comes back."""
