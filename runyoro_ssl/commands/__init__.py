"""The tasks: each resolves its options, calls its stage, and shows what came of it."""
