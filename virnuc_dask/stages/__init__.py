"""One partition's work, as plain functions. No Dask."""
