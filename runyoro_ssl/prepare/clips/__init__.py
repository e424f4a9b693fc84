"""One recording to its clips: cut, measured, filtered."""

CLIPS_VERSION = 1
"""Raised when the same recordings and settings give other clips: what was prepared before is then made anew."""
