"""Measures how good a model set is, and what its scores are worth."""
