"""A model set's folder with the encoders of another one and a new classifier."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save

from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import (
    ClassifierSpec,
    ModelSetInfo,
    read_info,
    verify,
    write_info,
)

VERSION = "1"
_CLASSIFIER = "classifier.safetensors"
# Small files are copied: what is written into a linked file changes it everywhere.
_LINKED_BYTES = 100_000_000


def write_modelset(
    base: Path, folder: Path, name: str, chunk_length: int, classifier: Classifier
) -> ModelSetInfo:
    """Write the model set ``name``: the encoders of ``base``, checked, and ``classifier``.

    Large files are linked where the file system can. Quality, calibration, contig model and
    training data are left to the caller.

    Raises
    ------
    ModelSetError
        If a file of ``base`` is missing or damaged.
    """
    info = read_info(base)
    specs = (info.nucleotide, info.peptide)
    files = {name for spec in specs for name in (spec.file, spec.tokenizer) if name}
    verify(base, info, files)
    folder.mkdir()
    for file in sorted(files):
        _place(base / file, folder / file)
    # Not save_file, whose files only their owner may read: others are to use them.
    (folder / _CLASSIFIER).write_bytes(save(classifier.state_dict()))
    return write_info(
        folder,
        replace(
            info,
            name=name,
            version=VERSION,
            chunk_lengths=(chunk_length,),
            classifier=ClassifierSpec(_CLASSIFIER, classifier.hidden.out_features),
            licence=f"encoders: {info.licence}; classifier: whoever trained it decides",
            quality={},
            calibration=None,
            contig_model=None,
        ),
    )


def _place(source: Path, target: Path) -> None:
    if source.stat().st_size >= _LINKED_BYTES:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)
