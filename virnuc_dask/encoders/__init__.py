"""Sequences to embeddings. Torch, no Dask."""
