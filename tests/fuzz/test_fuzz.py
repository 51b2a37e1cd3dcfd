"""The coverage-guided fuzzers, for some seconds each; FUZZ_SECONDS=600 for a long look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("FUZZ_SECONDS", "3"))


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("target", ["readers", "modelsets"])
def test_nothing_but_a_clear_error_comes_of_any_bytes(tmp_path, target):
    pytest.importorskip("atheris", reason="no atheris for this Python or machine")
    seeds = HERE / "seeds" / target
    (tmp_path / "found").mkdir()
    command = [sys.executable, HERE / f"fuzz_{target}.py", tmp_path / "found", seeds]
    limits = (f"-max_total_time={SECONDS}", "-rss_limit_mb=4000", "-max_len=12000", "-timeout=60")
    done = subprocess.run(
        [*command, *limits, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[1],
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(list((tmp_path / "found").iterdir())) > 10, "the fuzzer found its way in"
