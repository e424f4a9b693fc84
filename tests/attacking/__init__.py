"""Attacks that are drawn: each is a task of the command line, and one or two things that go wrong around it."""
