"""What torch reads from the environment once, when it first computes."""

import os

VARIABLES = {
    # With its default, MKL takes another route for matrices of 5 to 11 rows when it has more than
    # one thread, and results differ in the last bit from one number of threads to the next. This
    # costs nothing measurable. Held by tests/modelsets/test_modelset.py.
    "MKL_CBWR": "AUTO,STRICT",
    # Batches of many lengths leave holes in a GPU's memory that fixed segments cannot fill. Both
    # names: torch renamed it.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}


def prepare_torch() -> None:
    """Set what is not set already; call before torch computes, and before workers are started.

    Workers inherit it: LocalCUDACluster overwrites the environment it is given as an argument.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
