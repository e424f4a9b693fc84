"""Pieces of an HTML page that stands alone: charts, pictures, amounts in words."""
