"""The kernels of an older processor on a newer one: each path is tested on every machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
AVX2_ALONE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CHOSEN = "attention_is_torchs or bias_is_added or products_are or accuracy_gate"
FILES = ("test_kernels.py", "test_transformer.py")


@pytest.mark.avx512  # elsewhere the files themselves have tested what AVX2 does
def test_encoders_pass_their_tests_on_a_processor_without_avx512():
    # In another process: torch and oneDNN look at these variables once.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            *FILES,
            "-k",
            CHOSEN,
        ],
        env=os.environ | AVX2_ALONE,
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
