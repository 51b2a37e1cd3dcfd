"""BAM and CRAM files → their reads, each once, as the machine read it; through pysam."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.text import Columns, Entry, if_ordinary

if TYPE_CHECKING:
    from pysam import AlignedSegment

_READS = 500  # that are looked at together
_FIRST = 1000  # reads of a sorted file, by which it is told whether they are pairs
_PAIRED, _ONE, _TWO = 0x1, 0x40, 0x80
_END_OF_CRAM = b"\xe0EOF"  # in the container of 38 bytes that a whole file ends with
_SECONDARY, _SUPPLEMENTARY = 0x100, 0x800


def is_alignments(path: str) -> bool:
    """Whether a file is BAM or CRAM, told from how it begins."""
    with suppress(OSError, ValueError, zlib.error):
        if Path(path).is_file():  # of a pipe nothing can be read twice
            with Path(path).open("rb") as stream:
                head = stream.read(1 << 16)
            is_zipped = head.startswith(b"\x1f\x8b")
            return head.startswith(b"CRAM") or (
                is_zipped and zlib.decompressobj(31).decompress(head, 4) == b"BAM\1"
            )
    return False


def read_alignments(
    path: str, left_out: Counter[str], *, together: bool
) -> Iterator[Columns | Entry]:
    """The reads of a BAM or CRAM file: its primary records, aligned or not.

    Those that were turned over are turned back. Mates end in /1 and /2, by their flags; with
    ``together`` those of a file that is sorted by place follow one another: a copy in the system's
    folder for temporary files is in that order. Others are counted by kind in ``left_out``.
    `BadInputError` if pysam is missing, or a CRAM cannot be read without its reference; what else
    htslib says is an `OSError` or a `ValueError`.
    """
    with _opened(path, together=together) as file:
        if file.is_cram:
            _require_end(path)
        reads = _primary(file, left_out)
        try:
            while some := list(islice(reads, _READS)):
                names = [_name(read) for read in some]
                dna = [read.get_forward_sequence() or "" for read in some]
                if columns := if_ordinary(names, dna):
                    yield columns
                else:
                    yield from zip(map(str.encode, names), map(str.encode, dna), strict=True)
        except OSError as error:
            if not file.is_cram:
                raise
            raise BadInputError(
                f"{path}: this CRAM cannot be read ({error}). Is it complete, and is its reference "
                "here? Name a folder of references in REF_PATH, or make FASTQ of it: "
                f"samtools fastq --reference REFERENCE.fasta {path}"
            ) from error


def _require_end(path: str) -> None:
    """`OSError` if a CRAM was cut; of a BAM pysam says so."""
    with Path(path).open("rb") as stream:
        stream.seek(-38, os.SEEK_END)
        if _END_OF_CRAM not in stream.read():
            raise OSError("it has no end")


def _primary(file: Any, left_out: Counter[str]) -> Iterator[AlignedSegment]:
    for read in file.fetch(until_eof=True):
        if not read.flag & (_SECONDARY | _SUPPLEMENTARY):
            yield read
        else:
            left_out["secondary" if read.flag & _SECONDARY else "supplementary"] += 1


def _name(read: AlignedSegment) -> str:
    which = read.flag & (_ONE | _TWO) if read.flag & _PAIRED else 0
    return (read.query_name or "*") + {_ONE: "/1", _TWO: "/2"}.get(which, "")


@contextmanager
def _opened(path: str, *, together: bool) -> Iterator[Any]:
    try:
        import pysam
    except ImportError as error:
        raise BadInputError(
            f"{path}: BAM and CRAM need pysam: pip install 'virnuc-dask[bam]'."
        ) from error
    pysam.set_verbosity(0)  # errors are raised
    with TemporaryDirectory(prefix="virnuc-") as folder:
        if together and _is_spread(pysam, path):
            copy = Path(folder) / "by_name.bam"
            try:
                pysam.collate("-o", str(copy), path, str(copy.with_suffix("")))
            except pysam.utils.SamtoolsError as error:
                raise OSError(str(error)) from error
            path = str(copy)
        with pysam.AlignmentFile(path, check_sq=False) as file:
            yield file


def _is_spread(pysam: Any, path: str) -> bool:
    """Whether the mates of a file do not follow one another: it is sorted by place."""
    with pysam.AlignmentFile(path, check_sq=False) as file:
        is_sorted = file.header.to_dict().get("HD", {}).get("SO") == "coordinate"
        first = islice(file.fetch(until_eof=True), _FIRST)
        return is_sorted and any(read.is_paired for read in first)
