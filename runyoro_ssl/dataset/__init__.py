"""The prepared dataset on disk: the contract between prepare, which writes it, and train, which reads it."""
