"""Donors: speech of other languages that is chosen by how near its sounds are to the target's."""
