"""What a person watches: a page on Dask's dashboard, and figures for Prometheus."""
