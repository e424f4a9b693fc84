"""Publication: what of a finished run is for others, its model card."""
