"""One recording to its clips: cut, measured, filtered."""
