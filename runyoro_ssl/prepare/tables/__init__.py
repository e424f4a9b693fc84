"""Metadata tables: who speaks in which file, as corpora have it, joined to a folder of recordings."""
