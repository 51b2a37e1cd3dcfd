"""Imported by every Python that has this folder on its path: client, workers, schedulers.

Makes the encoders of `faulty_encoders` known to model sets. Where a run's workers are forks, what
they fork from loads torch once for all.
"""

import sys

from virnuc_dask.encoders.encoder import ARCHITECTURES

ARCHITECTURES["faulty_dna_words"] = "faulty_encoders:FaultyDna"

if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    import virnuc_dask.modelsets.lifetime  # noqa: F401
