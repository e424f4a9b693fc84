"""Evaluation: how well a model does on held-out speech, and the measures of that."""
