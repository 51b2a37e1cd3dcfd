"""Published checkpoints → a model set."""
