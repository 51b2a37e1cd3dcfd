import subprocess
import sys

import pytest

from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.modelsets.sizes import encoder_bytes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_headers_tell_what_the_loaded_weights_take(parity_modelset, precision):
    info = read_info(parity_modelset)
    told = encoder_bytes(parity_modelset, info, precision)
    models = load_modelset(str(parity_modelset), device="cpu", precision=precision)
    loaded = sum(encoder.weight_bytes for encoder in models.encoders)
    assert told == pytest.approx(loaded, rel=0.01)


def test_the_client_asks_without_torch():
    code = (
        "import sys; from virnuc_dask.modelsets.manifest import find, read_info; "
        "from virnuc_dask.modelsets.sizes import encoder_bytes; "
        "assert encoder_bytes(find('mini'), read_info(find('mini')), 'fp32') > 1000; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
