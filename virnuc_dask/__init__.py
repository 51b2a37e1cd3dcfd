"""Find viral sequences in metagenomes with language models, through Dask."""

__version__ = "0.1.0"
