"""The Hugging Face hub: its models in the cache that all its libraries share, fetched once, pinned, and told of."""
