"""The clips of a recording: cut, measured, filtered."""

CLIPS_VERSION = 2
"""Raised by one when the same recordings and settings give another dataset: what was prepared is then made anew."""
