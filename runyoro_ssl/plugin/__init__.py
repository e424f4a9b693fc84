"""Plugins: what a hook is, where plugins come from, which versions they are for, and how they are built."""
