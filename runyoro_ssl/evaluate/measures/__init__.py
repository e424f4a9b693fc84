"""Measures of a model: each a function over arrays, with its unit, its shapes and who proposed it."""
