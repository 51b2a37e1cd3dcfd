"""DNA in, chunks and frames out. No torch, no Dask."""
