"""A stand-in for MMseqs2, and genes of two styles."""

import random
import sys
from itertools import product
from pathlib import Path

import pytest

from virnuc_dask.pretraining.genes import Gene

STOPS = ("TAA", "TAG", "TGA")
CODONS = ["".join(letters) for letters in product("ACGT", repeat=3)]

# Proteins are similar if they share twelve residues in a row. Options are noted beside the script.
STAND_IN = """#!{python} -IS
import sys
command, queries, targets, out, work, *options = sys.argv[1:]
def read(path):
    lines = open(path).read().split()
    return [(name[1:], protein) for name, protein in zip(lines[::2], lines[1::2])]
def words(protein):
    return {{protein[i : i + 12] for i in range(len(protein) - 11)}}
having = {{}}
for name, protein in read(targets):
    for word in words(protein):
        having.setdefault(word, set()).add(name)
with open(out, "w") as stream:
    for name, protein in read(queries):
        for other in sorted(set().union(*(having.get(word, set()) for word in words(protein)))):
            stream.write(f"{{name}}\\t{{other}}\\n")
with open(sys.argv[0] + ".calls", "a") as stream:
    stream.write(" ".join([command, *options]) + "\\n")
"""


@pytest.fixture(scope="session")
def write_mmseqs():
    """Writes a program of the name into a folder; the file that notes its calls."""

    def write(folder: Path, text: str = STAND_IN.format(python=sys.executable)) -> Path:
        folder.mkdir()
        program = folder / "mmseqs"
        program.write_text(text)
        program.chmod(0o755)
        return folder / "mmseqs.calls"

    return write


@pytest.fixture
def install_mmseqs(tmp_path, monkeypatch, write_mmseqs):
    """Puts a stand-in first on PATH; the file that notes its calls."""

    def install(*text: str) -> Path:
        calls = write_mmseqs(tmp_path / "bin", *text)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        return calls

    return install


@pytest.fixture
def no_mmseqs(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture(scope="session")
def coding():
    """Makes an open reading frame of so many codons that prefers codons with one letter."""

    def make(rng: random.Random, codons: int, favourite: str = "") -> str:
        chosen = [codon for codon in CODONS if codon not in STOPS]
        weights = [1 + 2 * codon.count(favourite) if favourite else 1 for codon in chosen]
        return "".join(rng.choices(chosen, weights, k=codons))

    return make


@pytest.fixture(scope="session")
def make_genes(coding):
    """Makes genes of one kind, a few a genome; viral ones prefer A, all others C."""

    def make(kind: str, count: int, seed: int = 0, codons: tuple[int, int] = (200, 300)):
        rng = random.Random(f"{kind} {seed}")
        favourite = "A" if kind == "virus" else "C"
        return [
            Gene(
                f"{kind}{seed}_{number}",
                coding(rng, rng.randrange(*codons), favourite),
                kind,
                f"{kind}{seed}_{number // 4}",
            )
            for number in range(count)
        ]

    return make
