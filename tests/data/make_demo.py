"""Build demo.fasta.gz from the example data of two Debian packages.

    apt-get install bowtie2-examples ragout-examples
    python tests/data/make_demo.py tests/data/demo.fasta.gz

Phage lambda's genome, and of each of four bacterial assemblies the first three contigs of 10 to 60
kilobases, in file order: a rule that looks at no prediction.
"""

import gzip
import sys
from itertools import islice
from pathlib import Path

import dnaio

LAMBDA = Path("/usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz")
RAGOUT = Path("/usr/share/doc/ragout/examples")
ASSEMBLIES = {
    "Escherichia_coli_MG1655": "E.Coli/mg1655_contigs.fasta.gz",
    "Helicobacter_pylori_SJM180": "H.Pylori/SJM180_contigs.fasta.gz",
    "Staphylococcus_aureus_USA300": "S.Aureus/usa300_contigs.fasta.gz",
    "Vibrio_cholerae_H1": "V.Cholerae/h1_contigs.fasta.gz",
}
SHORTEST, LONGEST, EACH = 10_000, 60_000, 3


def main(out: Path) -> None:
    (phage,) = dnaio.open(LAMBDA)
    records = [("Escherichia_phage_lambda", phage.sequence)]
    for species, assembly in ASSEMBLIES.items():
        contigs = (c for c in dnaio.open(RAGOUT / assembly) if SHORTEST <= len(c) <= LONGEST)
        records += [(f"{species}_{c.id}", c.sequence) for c in islice(contigs, EACH)]
    # No time stamp, so that the same input gives the same file.
    with out.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as stream:
        for name, dna in records:
            lines = (dna[at : at + 80] for at in range(0, len(dna), 80))
            stream.write("\n".join([f">{name}", *lines, ""]).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
