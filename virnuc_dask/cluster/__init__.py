"""Where the work is done: the only rooms that import ``dask.distributed``."""
