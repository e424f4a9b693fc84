"""Batches: which clips train together, and when; and how they are read, built and fetched."""
