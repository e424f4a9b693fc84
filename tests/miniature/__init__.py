"""What `in_miniature.py` and `recipe_runs.py` share: datasets, a base that has heard some speech, phone alignments."""
