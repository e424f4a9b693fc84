"""Sharing: how the processes of a run train one model, each with a copy of it or with a part of it."""
