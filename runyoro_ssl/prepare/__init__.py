"""From a folder of recordings to a Hugging Face Dataset: manifest, decoding, cutting, filters, split."""
