"""What several test files share, and how they share a machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# Before torch is imported anywhere. On few cores, threads that wait for each other make tiny
# models thirty times slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Model sets that somebody fetched are none of ours.
os.environ["VIRNUC_HOME"] = str(Path(__file__).parent / "no-such-home")

# A busy machine is no failure: no example has a limit of seconds.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

DATA = Path(__file__).parent / "data"
MOST_PROCESSES = 8  # of pytest; each takes about a gigabyte
# Files that take longest, for starting their clusters or for waiting: first, or they would be last.
# The last are those of single units.
LONGEST = ("faults/", "tests/test_end_to_end", "fuzz/", "cluster/", "malice/", "tests/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process a core that this container may use, and one more: tests of faults wait."""
    from dask.system import CPU_COUNT

    return min(int(CPU_COUNT) + 1, MOST_PROCESSES)


def pytest_configure() -> None:
    """Take interruptions: a shell's background job ignores them, and all that it starts would."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first. Each is one process's, with its fixtures: by the Makefile."""
    items.sort(key=_turn)


def _file(item: pytest.Item) -> str:
    return f"{item.path.parent.name}/{item.path.stem}"


def _turn(item: pytest.Item) -> int:
    matches = (n for n, start in enumerate(LONGEST) if _file(item).startswith(start))
    return next(matches, len(LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    from virnuc_dask.encoders.processor import AVX512, this_processor

    if item.get_closest_marker("avx512") and this_processor().instructions != AVX512:
        pytest.skip("this processor has no AVX-512, or is held back from it")


@pytest.fixture(scope="session", autouse=True)
def _without_report() -> Iterator[None]:
    """Runs in this process write no page, which takes longer than they do; its tests ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("virnuc_dask.run"), "write_report", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """The published tool's recorded results; see the README there."""
    return DATA / "parity"


@pytest.fixture(scope="session")
def parity_modelset(parity_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model set imported from the parity set's checkpoints."""
    from virnuc_dask.modelsets.importing.modelset import Checkpoints, import_modelset

    out = tmp_path_factory.mktemp("modelsets") / "parity"
    checkpoints = Checkpoints(
        dnabert_s=parity_dir / "dnabert_s_tiny",
        esm2=parity_dir / "esm2_tiny.pt",
        classifier=parity_dir / "classifier.pth",
    )
    import_modelset("parity", out, (500, 300), checkpoints)
    return out


def mean_logit_model(columns: int = 3, reading: str = "genes") -> Any:
    """Believes the mean viral logit of a record's rows; its reliability rises with their number.

    They are of one reading, and have ``columns`` of evidence.
    """
    from virnuc_dask.modelsets.contig_features import feature_count
    from virnuc_dask.modelsets.contig_model import (
        ByLength,
        ContigModel,
        Familiarity,
        Logistic,
        Reader,
        Trees,
    )
    from virnuc_dask.modelsets.region_model import RegionModel

    zeros, leaf = np.zeros(feature_count(columns)), np.zeros(1, np.int64)
    is_mean, is_number = np.copy(zeros), np.copy(zeros)[:, None]
    is_mean[feature_count(0)] = is_number[1] = 1  # "mean_0", "log_genes"

    def curve(*knots: tuple[float, float]) -> ByLength:
        at, height = np.array(knots).T[:, None]
        return ByLength(np.array([1.0]), at, height)

    reader = Reader(
        columns=columns,
        # Half of the mean with trees that say nothing.
        logistic=Logistic(zeros, zeros + 1, 2 * is_mean, np.zeros(1)),
        trees=Trees(leaf, leaf, np.zeros(1), leaf, leaf, np.zeros(1)),
        calibration=curve((-100, -100), (100, 100)),
        # Distance is (log genes - 3)^2.
        familiarity=Familiarity(3 * is_number[:, 0], is_number, curve((0, 0), (16, 1))),
    )
    weight = np.array([1.0] + [0.0] * (columns - 1))
    regions = RegionModel(weight, -0.65, 4.0, 0.5, 0.1, 0.1, 3)
    return ContigModel({reading: reader}, np.array([45]), regions)


@pytest.fixture(scope="session")
def contig_model() -> Callable[..., Any]:
    """Makes `mean_logit_model`."""
    return mean_logit_model


@pytest.fixture(scope="session")
def genes_modelset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model set that reads genes, in short pieces; its weights are drawn."""
    from virnuc_dask.modelsets.manifest import ContigModelSpec, GenesSpec, write_info

    folder = tmp_path_factory.mktemp("modelsets") / "genes"
    drawn = _draw_words(folder)
    mean_logit_model().save(folder / "contig_model.safetensors")
    info = replace(
        drawn,
        reading="genes",
        genes=GenesSpec("pyrodigal-gv", (2, 20, 45), 8000, 2000, 300),
        contig_model=ContigModelSpec("contig_model.safetensors", (1, 7), ((1, 0.6),), 0.5),
    )
    write_info(folder, info)
    return folder


@pytest.fixture(scope="session")
def frames_modelset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model set that reads frames, calibrated; its weights are drawn.

    Its scores say nothing of viruses, but differ between frames, and its features tell enough to
    be trained on.
    """
    from virnuc_dask.modelsets.calibration import Calibration
    from virnuc_dask.modelsets.manifest import write_info

    folder = tmp_path_factory.mktemp("modelsets") / "frames"
    knots = ((-8.0, -4.0), (8.0, 4.0))
    calibration = Calibration(knots, 0.2, 0.0, knots, "drawn")
    write_info(
        folder,
        replace(
            _draw_words(folder),
            chunk_lengths=(500, 300),
            calibration={"500": calibration, "300": calibration},
        ),
    )
    return folder


def _draw_words(folder: Path) -> Any:
    """Write encoders of words and a classifier into a new folder; what its manifest shall say."""
    import torch
    from safetensors.torch import save_file

    from virnuc_dask.encoders.encoder import EncoderSpec
    from virnuc_dask.encoders.words import CLASSES, KNOWN_DNA, KNOWN_PEPTIDE, PATTERNS
    from virnuc_dask.modelsets.classifier import Classifier
    from virnuc_dask.modelsets.manifest import ClassifierSpec, ModelSetInfo

    folder.mkdir()
    torch.manual_seed(5)
    known_dna, known_peptide = (
        torch.randint(256, ((pattern.words + 1) // 2,), dtype=torch.uint8)
        for pattern in (KNOWN_DNA, KNOWN_PEPTIDE)
    )
    words = sum(pattern.words for pattern in PATTERNS)
    peptide = {
        "weights": torch.randint(-127, 128, (words, len(CLASSES)), dtype=torch.int8),
        "scale": torch.full((len(CLASSES),), 0.3),
        "bias": torch.zeros(len(CLASSES)),
        "known": known_peptide,
    }
    save_file({"known": known_dna}, folder / "nucleotide.safetensors")
    save_file(peptide, folder / "peptide.safetensors")
    save_file(Classifier(11, hidden=4).state_dict(), folder / "classifier.safetensors")
    return ModelSetInfo(
        name=folder.name,
        version="1",
        chunk_lengths=(500,),
        nucleotide=EncoderSpec("dna_words", 3, "nucleotide.safetensors"),
        peptide=EncoderSpec("peptide_words", 8, "peptide.safetensors"),
        classifier=ClassifierSpec("classifier.safetensors", 4),
        licence="none",
        training_data="none",
    )


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the command line in this process: exit code, standard output, standard error."""
    from virnuc_dask.cli import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["virnuc-dask", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its module's ``DISK_BYTES``."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={request.module.DISK_BYTES}"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
