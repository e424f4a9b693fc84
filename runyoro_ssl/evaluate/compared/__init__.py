"""Measures of two models side by side, with intervals, made of what was heard."""
