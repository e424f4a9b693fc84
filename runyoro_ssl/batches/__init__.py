"""Which clips train together, and when; and how their batches are read, built and fetched."""
