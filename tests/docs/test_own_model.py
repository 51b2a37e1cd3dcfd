"""The commands of the documentation, on toy checkpoints of the published formats."""

import re
import shlex
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest

from virnuc_dask.encoders import cost
from virnuc_dask.modelsets.manifest import find, read_info

PAGE = Path(__file__).parents[2] / "docs/pages/howto/own-model.md"
CODONS = {  # none is a stop codon on either strand
    "viruses": ("AAA", "GAA", "ACA", "AAC", "GAC"),
    "hosts": ("GCC", "GGC", "CGC", "CTG", "GTC"),
}


def commands(title: str) -> list[list[str]]:
    """Those of the program, of a section."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    block = re.findall(r"```console\n(.*?)```", section, re.DOTALL)[0].replace("\\\n", "")
    told = [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]
    return [words[1:] for words in told if words[0] == "virnuc-dask"]


def fasta(kind: str, records: int) -> str:
    draw = np.random.default_rng(records)
    codons = [*CODONS[kind] * 2, *(codon for both in CODONS.values() for codon in both)]
    genes = ("".join(draw.choice(codons, 250)) for _ in range(records))
    return "".join(f">{kind}{number}\n{gene}\n" for number, gene in enumerate(genes))


@pytest.fixture
def place(parity_dir, tmp_path, monkeypatch) -> Path:
    """A folder with what the commands name."""
    shutil.copytree(parity_dir / "dnabert_s_tiny", tmp_path / "DNABERT-S")
    shutil.copy(parity_dir / "esm2_tiny.pt", tmp_path / "esm2_t33_650M_UR50D.pt")
    for kind in CODONS:
        (tmp_path / f"{kind}.fasta").write_text(fasta(kind, 40))
    (tmp_path / "contigs.fasta").write_text(fasta("viruses", 3) + fasta("hosts", 2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cost.ESM2, "650M", (4, 80, 4))
    return tmp_path


def test_a_smaller_esm2_from_checkpoints_to_calls(place, command):
    told = commands("On a smaller ESM-2, from checkpoints to calls")
    assert [words[0] for words in told].count("train") == 1
    said = []
    with dask.config.set({"virnuc.cluster.kind": "none"}):
        for words in told:
            code, out, err = command(*words)
            assert code == 0, (words, err)
            said.append(out)
    assert any("encoder   ESM-2 650M" in text for text in said)
    trained = read_info(find("my-650m"))
    assert (trained.is_trained, trained.peptide.name) == (True, "ESM-2 650M")
    rows = (place / "out/contigs.tsv").read_text().splitlines()
    assert len(rows) == 6
    assert (place / "my-650m.tar").stat().st_size > 0
