"""What is heard, and what each model makes of it: clips, models, their features, computed once."""
