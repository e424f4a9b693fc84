"""What `in_miniature.py` needs: a base that has heard some speech, and phone alignments of Luganda."""
