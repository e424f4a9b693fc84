"""What a run says of its own health: judges, and touches nothing."""
