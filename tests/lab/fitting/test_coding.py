"""Frames that a CDS supports, against two slow ways to find them with Biopython."""

import random

import numpy as np
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import BeforePosition, CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from virnuc_dask.lab.fitting.coding import CodingIndex, FrameSpans
from virnuc_dask.lab.fitting.genbank import read_genbank
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.frames import find_frames

CHUNK = 60


def part(start, end, strand=1):
    return SimpleLocation(start, end, strand)


def feature(location, codon_start=1, **qualifiers):
    return SeqFeature(location, "CDS", qualifiers={"codon_start": [codon_start], **qualifiers})


def annotated(seed: int) -> SeqRecord:
    """Two letters only, so that there is no stop codon in any reading."""
    dna = "".join(random.Random(seed).choices("CG", k=2_000))
    features = [
        feature(part(30, 330)),
        feature(SimpleLocation(BeforePosition(400), 700, -1), codon_start=2),
        feature(CompoundLocation([part(750, 851), part(900, 1100)])),
        # Bases 1100 and on: overlaps the one before, in another phase.
        feature(part(1052, 1180), codon_start=3),
        # In the order of translation: complement(join(1200..1330,1400..1555)).
        feature(CompoundLocation([part(1400, 1555, -1), part(1200, 1330, -1)])),
        feature(part(1600, 1900), pseudo=[""]),
        feature(CompoundLocation([part(1950, 2000), part(0, 25)])),
    ]
    return SeqRecord(
        Seq(dna), f"R{seed}.1", f"R{seed}", annotations={"molecule_type": "DNA"}, features=features
    )


@pytest.fixture(scope="module")
def records() -> list[SeqRecord]:
    return [annotated(1), annotated(2)]


@pytest.fixture(scope="module")
def kept(records, tmp_path_factory) -> set[tuple[str, int, str]]:
    """(record, chunk start, frame) of the supported frames, by way of a GenBank file."""
    path = tmp_path_factory.mktemp("genbank") / "records.gbk"
    SeqIO.write(records, path, "genbank")
    spans, names, frames = [], [], []
    lengths = []
    for number, record in enumerate(read_genbank(str(path))):
        spans += [(number, span.start, span.end, span.strand == "R") for span in record.coding]
        lengths.append(len(record.dna))
        for start, end in chunk_spans(len(record.dna), CHUNK):
            for frame in find_frames([record.dna[start:end]])[0]:
                names.append((record.id, start, frame.suffix))
                frames.append((number, start, end, frame.strand == "R", frame.offset))
    record, start, end, is_reverse, offset = np.array(frames).T
    index = CodingIndex(FrameSpans(*np.array(spans).T), np.array(lengths))
    supported = index.supports(
        FrameSpans.of_chunks(record, (start, end), is_reverse.astype(bool), offset)
    )
    assert len(names) == 6 * sum(1 for n in lengths for _ in chunk_spans(n, CHUNK))
    return {name for name, here in zip(names, supported, strict=True) if here}


def test_they_are_those_whose_codons_all_are_codons_of_one_cds(records, kept):
    expected = set()
    for record in records:
        codons = []
        for cds in record.features:
            if "pseudo" in cds.qualifiers:
                continue
            places = list(cds.location)[cds.qualifiers["codon_start"][0] - 1 :]
            codons.append({tuple(places[at : at + 3]) for at in range(0, len(places) - 2, 3)})
        for start, end in chunk_spans(len(record.seq), CHUNK):
            for strand, places in (("F", range(start, end)), ("R", range(end - 1, start - 1, -1))):
                for offset in range(3):
                    read = {tuple(places[at : at + 3]) for at in range(offset, len(places) - 2, 3)}
                    if any(read <= of_cds for of_cds in codons):
                        expected.add((record.id, start, f"{strand}{offset + 1}"))
    assert kept == expected
    assert len(expected) > 20


def test_they_are_those_whose_peptides_are_part_of_a_cds_translation(records, kept):
    expected = set()
    for record in records:
        proteins = []
        for cds in record.features:
            if "pseudo" in cds.qualifiers:
                continue
            coding = cds.extract(record.seq)[cds.qualifiers["codon_start"][0] - 1 :]
            proteins.append(str(coding[: len(coding) // 3 * 3].translate()))
        for start, end in chunk_spans(len(record.seq), CHUNK):
            for frame in find_frames([str(record.seq[start:end])])[0]:
                if any(frame.peptide in protein for protein in proteins):
                    expected.add((record.id, start, frame.suffix))
    assert kept == expected


def test_a_frame_of_another_record_is_not_supported():
    spans = FrameSpans(*np.array([[0, 0, 99, 0]]).T)
    index = CodingIndex(spans, np.array([100, 100]))
    record, zero = np.array([0, 1]), np.array([0, 0])
    frames = FrameSpans.of_chunks(record, (zero, zero + 60), np.array([False, False]), zero)
    assert index.supports(frames).tolist() == [True, False]
    assert index.coding_nt.tolist() == [99, 0]
