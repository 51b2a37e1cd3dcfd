"""Parquet tables and the run folder. A table is its own receipt."""
