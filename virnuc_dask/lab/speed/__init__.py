"""How fast this machine is: matrix products, encoders, whole runs; no Dask."""
