"""Trains a classifier for the encoders of a model set, from labelled records."""
