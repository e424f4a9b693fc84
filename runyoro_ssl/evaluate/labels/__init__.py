"""Labels of held-out speech, where there are any: phones with their times, and transcripts."""
