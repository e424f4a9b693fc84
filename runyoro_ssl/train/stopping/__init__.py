"""How a run ends before its end: signals, deadlines, sleep."""
