"""The watch over a run's health: it judges, and touches nothing."""
