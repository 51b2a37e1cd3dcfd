"""What the published model sets are made of: files, their places, checksums and licences.

Revisions, sizes and checksums of DNABERT-S and ESM-2 are those that other public projects pin for
the same files; several agree on each. Of VirNucPro's classifiers no checksum is published: a
commit names them, the one that the parity set was made with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LENGTHS = {"virnucpro-300": 300, "virnucpro-500": 500}  # chunk length, nt
LICENCES = {
    "DNABERT-S": "Apache-2.0, as its card on the hub says",
    "ESM-2": "MIT",
    "VirNucPro": "none stated in its repository",
}
_REVISION = "00e47f96cdea35e4b6f5df89e5419cbe47d490c6"
_COMMIT = "0f93f2755a7ea1acd3ff1bcf182892f960ef3326"
# Bytes and SHA-256 of DNABERT-S, in the order in which they are fetched; and of ESM-2.
_CONFIG = 1_025, "d54c142114563aa34ef7c2b54ccc921d08e50cd7c3cd69c439d5e0d2bbcfcdee"
_TOKENIZER = 168_203, "667f5a0e6e9630f7052b004784dda7c7aeba395cc4ca3c01b11b02e6aa29d7b1"
_WEIGHTS = 468_320_053, "f3cfc3d0541859df64759e758cc4bc40fe1d5760799a7d098a9f9f09501c1e5f"
_ESM2 = 5_678_116_398, "7de8b4082ba15891959ab368b77ce3886697af1efb16d3c9e9e7b0c5d3f07500"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file at its authors' place; ``size`` in bytes, and what is not known is None.

    ``elsewhere`` is where another program of this machine may have put it.
    """

    part: str
    url: str
    size: int | None = None
    sha256: str | None = None
    elsewhere: Path | None = None

    @property
    def name(self) -> str:
        """Its name, there and here."""
        return self.url.rpartition("/")[2]


def files_of(name: str) -> list[PublishedFile]:
    """The files of a published model set: DNABERT-S's, then ESM-2's, the classifier's last."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    cached = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"
    torch = Path(os.environ.get("TORCH_HOME") or "~/.cache/torch").expanduser() / "hub/checkpoints"
    snapshot = cached / "models--zhihan1996--DNABERT-S/snapshots" / _REVISION
    there = f"{hub}/zhihan1996/DNABERT-S/resolve/{_REVISION}"
    known = {"config.json": _CONFIG, "tokenizer.json": _TOKENIZER, "pytorch_model.bin": _WEIGHTS}
    files = [
        PublishedFile("DNABERT-S", f"{there}/{file}", *pinned, snapshot / file)
        for file, pinned in known.items()
    ]
    # fair-esm's file and not facebook/esm2_t36_3B_UR50D: half the size, since in fp16; what the
    # published tool used; and its SHA-256 is known.
    esm2, place = "esm2_t36_3B_UR50D.pt", "https://dl.fbaipublicfiles.com/fair-esm/models"
    files.append(PublishedFile("ESM-2", f"{place}/{esm2}", *_ESM2, torch / esm2))
    repository = f"https://raw.githubusercontent.com/Li-Jing-1997/VirNucPro/{_COMMIT}"
    classifier = f"{repository}/{LENGTHS[name]}_model.pth"
    return [*files, PublishedFile("VirNucPro", classifier)]
