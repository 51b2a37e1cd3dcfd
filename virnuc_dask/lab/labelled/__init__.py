"""Labelled files: whose records are viral, and whose are not."""
