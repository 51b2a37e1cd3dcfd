"""What the published model sets are made of: files, their places, checksums and licences.

Revisions, sizes and checksums of DNABERT-S and ESM-2 are those that other public projects pin for
the same files; several agree on each. Of VirNucPro's classifiers nobody has published a checksum:
a commit names them, and what comes first is written down (`download.bring`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_DNABERT_S, _ESM2, _VIRNUCPRO = "DNABERT-S", "ESM-2", "VirNucPro"
LICENCES = {
    _DNABERT_S: "Apache-2.0, as its card on the hub says",
    _ESM2: "MIT",
    _VIRNUCPRO: "none stated in its repository",
}


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file at its authors' place.

    ``place`` is what stands before its name there, ``shared`` the folder where other programs keep
    the same file. Both can name the variables of `_places`. ``size`` is in bytes; it and ``sha256``
    are None where they are not known.
    """

    part: str
    name: str
    place: str
    size: int | None = None
    sha256: str | None = None
    shared: str | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.place.format(**_places())}/{self.name}"

    @property
    def elsewhere(self) -> Path | None:
        """Where another program may have put it on this machine."""
        if self.shared is None:
            return None
        return Path(self.shared.format(**_places())).expanduser() / self.name


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A model set: the chunk length of its classifier in nt, and its files, the classifier last."""

    length: int
    files: tuple[PublishedFile, ...]


def _places() -> dict[str, str]:
    """The hub, or its mirror, and where it and torch keep what they download."""
    environ = os.environ
    return {
        "hub": environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"),
        "huggingface": environ.get("HF_HOME") or "~/.cache/huggingface",
        "torch": environ.get("TORCH_HOME") or "~/.cache/torch",
    }


_REVISION = "00e47f96cdea35e4b6f5df89e5419cbe47d490c6"
_ENCODERS = (
    *(
        PublishedFile(
            _DNABERT_S,
            name,
            f"{{hub}}/zhihan1996/DNABERT-S/resolve/{_REVISION}",
            size,
            sha256,
            f"{{huggingface}}/hub/models--zhihan1996--DNABERT-S/snapshots/{_REVISION}",
        )
        for name, size, sha256 in (
            (
                "config.json",
                1_025,
                "d54c142114563aa34ef7c2b54ccc921d08e50cd7c3cd69c439d5e0d2bbcfcdee",
            ),
            (
                "tokenizer.json",
                168_203,
                "667f5a0e6e9630f7052b004784dda7c7aeba395cc4ca3c01b11b02e6aa29d7b1",
            ),
            (
                "pytorch_model.bin",
                468_320_053,
                "f3cfc3d0541859df64759e758cc4bc40fe1d5760799a7d098a9f9f09501c1e5f",
            ),
        )
    ),
    # fair-esm's file and not facebook/esm2_t36_3B_UR50D: half the size, since in fp16; what the
    # published tool used; and its SHA-256 is known.
    PublishedFile(
        _ESM2,
        "esm2_t36_3B_UR50D.pt",
        "https://dl.fbaipublicfiles.com/fair-esm/models",
        5_678_116_398,
        "7de8b4082ba15891959ab368b77ce3886697af1efb16d3c9e9e7b0c5d3f07500",
        "{torch}/hub/checkpoints",
    ),
)
_COMMIT = "0f93f2755a7ea1acd3ff1bcf182892f960ef3326"  # what the parity set was made with, too
SETS = {
    f"virnucpro-{length}": PublishedSet(
        length,
        (
            *_ENCODERS,
            PublishedFile(
                _VIRNUCPRO,
                f"{length}_model.pth",
                f"https://raw.githubusercontent.com/Li-Jing-1997/VirNucPro/{_COMMIT}",
            ),
        ),
    )
    for length in (300, 500)
}
