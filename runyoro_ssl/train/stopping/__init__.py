"""The ways in which a run ends before its last step: signals, deadlines, sleep."""
