"""DNABERT-S."""
