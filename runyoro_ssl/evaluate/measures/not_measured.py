"""A measure that cannot be made of what there is."""

from __future__ import annotations


class NotMeasured(Exception):  # noqa: N818 - no error: the page shows its sentence beside the other measures
    """A measure is left out; the message is a sentence for people, without a full stop: why, and what would help."""
