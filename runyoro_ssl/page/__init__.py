"""Pieces of HTML pages that stand alone: rendering, charts, pictures, amounts in words."""
