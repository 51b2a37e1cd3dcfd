"""Imported by every Python that has this folder on its path: client, workers, schedulers.

Makes the encoders of `faulty_encoders` known to model sets, and nothing else.
"""

from virnuc_dask.encoders.encoder import ARCHITECTURES

ARCHITECTURES["faulty_dna_ngrams"] = ("faulty_encoders", "FaultyDna")
