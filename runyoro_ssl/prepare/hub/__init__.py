"""`hf://…`: a Hugging Face audio dataset, or a folder like one, as recordings with a manifest."""
