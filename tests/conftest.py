"""What several test files share, and how they share a machine."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# Before torch is imported anywhere. On few cores, threads that wait for each other make tiny
# models thirty times slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure: no example has a limit of seconds.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

DATA = Path(__file__).parent / "data"
MOST_PROCESSES = 8  # of pytest; each takes about a gigabyte
# Files that take longest, for starting their clusters or for waiting: first, or they would be last.
LONGEST = ("faults/", "tests/test_end_to_end", "fuzz/", "cluster/", "malice/", "tests/test_parity")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process a core that this container may use, which is what Dask counts."""
    from dask.system import CPU_COUNT

    return min(int(CPU_COUNT), MOST_PROCESSES)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process and its fixtures; the longest files come first."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_file(item)))
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


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """The published tool's recorded results; see the README there."""
    return DATA / "parity"


@pytest.fixture(scope="session")
def parity_modelset(parity_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model set imported from the parity set's checkpoints."""
    from virnuc_dask.modelsets.importers import Checkpoints, import_modelset

    out = tmp_path_factory.mktemp("modelsets") / "parity"
    checkpoints = Checkpoints(
        dnabert_s=parity_dir / "dnabert_s_tiny",
        esm2=parity_dir / "esm2_tiny.pt",
        classifier=parity_dir / "classifier.pth",
    )
    import_modelset("parity", out, (500, 300), checkpoints)
    return out


@pytest.fixture(scope="session")
def genes_modelset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model set that reads genes, in short pieces; its weights are drawn."""
    import torch
    from safetensors.torch import save_file

    from virnuc_dask.encoders.encoder import EncoderSpec
    from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES
    from virnuc_dask.modelsets.classifier import Classifier
    from virnuc_dask.modelsets.registry import (
        ClassifierSpec,
        ContigModelSpec,
        GenesSpec,
        ModelSetInfo,
        write_info,
    )

    folder = tmp_path_factory.mktemp("modelsets") / "genes"
    folder.mkdir()
    draw, width = torch.Generator().manual_seed(5), 2
    for file, tables in (("nucleotide", DNA_TABLES), ("peptide", PEPTIDE_TABLES)):
        drawn = {k: torch.randn(n, width, generator=draw) * 40 for k, n in tables.items()}
        save_file({k: v.half() for k, v in drawn.items()}, folder / f"{file}.safetensors")
    nucleotide = EncoderSpec("dna_ngrams", 3 * width, "nucleotide.safetensors", {"width": width})
    peptide = EncoderSpec("peptide_ngrams", width, "peptide.safetensors", {"width": width})
    torch.manual_seed(1)
    classifier = Classifier(4 * width, hidden=4)
    save_file(classifier.state_dict(), folder / "classifier.safetensors")
    numbers = {"slope": 1.0, "offset": 0.2, "called": 0.6, "reliable": 0.6}
    contig_model = {name: torch.tensor(number) for name, number in numbers.items()}
    save_file(contig_model, folder / "contig_model.safetensors")
    info = ModelSetInfo(
        name="genes",
        version="1",
        chunk_lengths=(500,),
        nucleotide=nucleotide,
        peptide=peptide,
        classifier=ClassifierSpec("classifier.safetensors", 4),
        licence="none",
        training_data="none",
        reading="genes",
        genes=GenesSpec("pyrodigal-gv", (2, 20, 45), 8000, 2000, 300),
        contig_model=ContigModelSpec("contig_model.safetensors", (1, 7)),
    )
    write_info(folder, info)
    return folder


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
