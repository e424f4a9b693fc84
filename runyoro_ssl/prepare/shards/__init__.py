"""The work of prepare in shards, which outlive a kill and serve a grown manifest."""
