"""The files that a run leaves for its user."""
