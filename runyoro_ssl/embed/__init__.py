"""Features of recordings, and units: what an adapted model is good for before anything is fine-tuned from it."""
