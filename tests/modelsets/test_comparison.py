"""What differs between two model sets."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.manifest import read_info, write_info


@pytest.fixture
def other(frames_modelset, tmp_path) -> Path:
    """The same encoders, another classifier, calibration and quality."""
    folder = Path(shutil.copytree(frames_modelset, tmp_path / "other"))
    info = read_info(folder)
    classifier = bytearray((folder / info.classifier.file).read_bytes())
    classifier[-1] ^= 1
    (folder / info.classifier.file).write_bytes(classifier)
    knots = ((-8.0, -4.0), (8.0, 4.0))
    calibration = {"500": Calibration(knots, 0.3, 0.0, knots, "drawn")}
    write_info(
        folder, replace(info, calibration=calibration, quality={"test": {"auroc": 0.9}}, name="o")
    )
    return folder


def test_the_same_set_does_not_differ(command, parity_modelset):
    code, out, _ = command("models", "diff", parity_modelset, parity_modelset, "--json")
    found = json.loads(out)
    assert (code, found["differences"]) == (0, {})
    assert found["same"] == {"features": True, "predictions": True, "calls": True}


def test_what_differs_is_told_by_its_place(command, frames_modelset, other):
    code, out, _ = command("models", "diff", frames_modelset, other, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["same"] == {"features": True, "predictions": False, "calls": True}
    differences = found["differences"]
    assert differences["name"] == ["frames", "o"]
    assert differences["quality.test.auroc"] == [None, 0.9]
    assert differences["calibration.500.correlation"] == [0.2, 0.3]
    files = [place for place in differences if place.startswith("files.")]
    assert files == ["files.classifier.safetensors"]
    code, out, _ = command("models", "diff", frames_modelset, other)
    assert "features    the same" in out
    assert "predictions differ" in out
    assert "quality.test.auroc\n  < null\n  > 0.9" in out


def test_encoders_of_other_sizes_differ(command, parity_modelset, frames_modelset):
    _, out, _ = command("models", "diff", parity_modelset, frames_modelset, "--json")
    found = json.loads(out)
    assert not any(found["same"][what] for what in ("features", "predictions"))
    values, sizes = (
        found["differences"][f"sizes.peptide.safetensors.{what}"] for what in ("values", "bytes")
    )
    assert values[0] != values[1]
    assert sizes[0] > 2 * values[0]
    assert found["differences"]["nucleotide.name"] == ["DNABERT-S", None]
