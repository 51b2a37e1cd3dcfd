"""Trains the encoders and the classifier of a model set, and measures how good it is."""
