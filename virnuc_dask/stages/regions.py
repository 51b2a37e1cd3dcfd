"""Genes or chunks of whole records → regions: runs of viral ones, where neighbours say so too.

The probability that a gene is viral, given all genes of its record, is that of a hidden Markov
model (forward and backward; Rabiner, Proceedings of the IEEE 77 (1989), 257-286). Both directions
are products of matrices of two rows along the record, taken for all genes at once by doubling.
Chunks of a model set that reads frames go the same way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Calibration, margins
from virnuc_dask.modelsets.region_model import Floats, RegionModel, structure
from virnuc_dask.stages.whole_records import begins
from virnuc_dask.tables import schemas
from virnuc_dask.tables.vectors import from_column

IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOST, VIRUS = 0, 1

# Of chunks of some 500 nt, not fitted. Genomes of bacteria hold a prophage every few megabases,
# tens of kilobases long; one record in ten is viral from its beginning. A chunk counts seven to
# one at most: seven chunks in a row, 3.5 kb, are the least that makes a region within a record.
CHUNKS = RegionModel(
    weight=np.ones(1), bias=0.0, most=2.0, initial=0.1, enter=2e-4, leave=1 / 80, least_genes=3
)


class Posterior(NamedTuple):
    """What all genes of a record say of each of them; natural logarithms of probabilities."""

    viral: Floats  # its probability to be viral
    log_host: Floats  # that it is of the host
    log_stays: Floats  # that it is of the host, if the gene before is; as above for the first


def with_regions(genes: pa.Table, model: RegionModel | None) -> tuple[pa.Table, pa.Table]:
    """Genes with the regions that they lie in, and the regions; none without a ``model``.

    Parameters
    ----------
    genes
        Rows of `schemas.gene_predictions`, all genes of each record, by record and start.

    Returns
    -------
    pyarrow.Table, pyarrow.Table
        Rows of `schemas.GENES`, and of `schemas.REGIONS`.
    """
    record, start, end = (genes[n].to_numpy() for n in ("record_index", "start", "end"))
    number = np.zeros(len(genes), np.int64)
    chance = np.full(len(genes), np.nan)
    regions = schemas.REGIONS.empty_table()
    if model is not None:
        neighbours = structure(record, start, end, pc.equal(genes["strand"], "+").to_numpy())
        log_ratio = model.log_ratio(from_column(genes, "evidence"), neighbours)
        found, number = find(log_ratio, record, model)
        chance, regions = found.viral, _regions(genes, number, log_ratio, found)
    columns = [
        *genes.select(schemas.GENES.names[:-2]).columns,
        pa.array(chance, pa.float32(), from_pandas=True),  # not a number is null
        pa.array(number, pa.int32(), mask=number == 0),
    ]
    return pa.table(columns, schema=schemas.GENES), regions


def chunk_regions(chunks: pa.Table, calibration: Calibration | None) -> pa.Table:
    """The regions that chunks make: rows of `schemas.REGIONS`.

    A chunk's evidence is the calibration's; without one half the difference of its scores' logits,
    which is the logit of ``score_virus`` where the two add up to 1. One without a score says
    nothing.

    Parameters
    ----------
    chunks
        Rows of `schemas.CHUNKS`, all of each record, in order.
    """
    _, at, count = np.unique(chunks["record_index"], return_inverse=True, return_counts=True)
    chunks = chunks.filter(count[at] >= CHUNKS.least_genes)  # of reads hardly any has enough
    virus, others = (
        chunks[name].to_numpy().astype(np.float64) for name in ("score_virus", "score_others")
    )
    if calibration is None:
        evidence = margins(virus, others) / 2
    else:
        evidence = calibration.chunk_evidence(virus, others)
    alone = np.zeros((len(chunks), len(CHUNKS.structure)))
    log_ratio = CHUNKS.log_ratio(np.nan_to_num(evidence)[:, None], alone)
    found, number = find(log_ratio, chunks["record_index"].to_numpy(), CHUNKS)
    return _regions(chunks, number, log_ratio, found)


def find(log_ratio: Floats, record: IntArray, model: RegionModel) -> tuple[Posterior, IntArray]:
    """What is known of each gene, and its region's number, as `number_runs`."""
    found = posterior(log_ratio, record, model)
    return found, number_runs(found.viral >= 0.5, record, model.least_genes)


def posterior(log_ratio: Floats, record: IntArray, model: RegionModel) -> Posterior:
    """What is known of each gene, from all genes of its record."""
    if not len(record):
        return Posterior(*np.zeros((3, 0)))
    likelihood = np.exp(np.stack([np.minimum(-log_ratio, 0), np.minimum(log_ratio, 0)], axis=1))
    moves = np.array([[1 - model.enter, model.enter], [model.leave, 1 - model.leave]])
    is_first = begins(record)
    is_last = np.append(is_first[1:], True)
    # A step to the first gene of a record forgets what was before it, whatever that was.
    start = np.array([1 - model.initial, model.initial])
    forward = np.where(is_first[:, None, None], start, moves) * likelihood[:, None, :]
    after = np.append(likelihood[1:], [[1.0, 1.0]], axis=0)
    backward = np.where(is_last[:, None, None], 1.0, moves * after[:, None, :])
    before_and_here = _running_products(forward)[:, 0, :]
    # From the end, and transposed, so that products run the same way.
    to_come = _running_products(backward[::-1].transpose(0, 2, 1))[::-1, 0, :]
    both = before_and_here * to_come
    from_host = forward[:, HOST, :] * to_come
    return Posterior(both[:, VIRUS] / both.sum(axis=1), _log_host(both), _log_host(from_host))


def _log_host(weights: Floats) -> Floats:
    """Logarithm of the share of the host's weight."""
    share = weights[:, HOST] / weights.sum(axis=1)
    log: Floats = np.log(np.maximum(share, np.finfo(np.float64).tiny))
    return log


def _running_products(matrices: Floats) -> Floats:
    """Of (n, 2, 2): for each place the product of all up to it, but for a factor."""
    products, reach = matrices.copy(), 1
    while reach < len(products):
        joined = products[:-reach] @ products[reach:]
        products[reach:] = joined / joined.max(axis=(1, 2), keepdims=True)
        reach *= 2
    return products


def number_runs(is_viral: Flags, record: IntArray, least: int) -> IntArray:
    """Each gene's region, counted from 1 in its record, 0 for none: runs of ``least`` or more."""
    changes = begins(record, is_viral)
    run = np.cumsum(changes) - 1
    first = np.flatnonzero(changes)
    kept = is_viral[first] & (np.bincount(run) >= least)
    # Runs that are kept, less those of the records before.
    count = np.cumsum(kept)
    before = np.maximum.accumulate(np.where(begins(record[first]), count - kept, 0))
    number: IntArray = np.where(kept, count - before, 0)[run]
    return number


def of_regions(record: IntArray, number: IntArray) -> tuple[IntArray, IntArray]:
    """The rows that lie in regions, and at which of those each region begins."""
    inside = np.flatnonzero(number)
    return inside, np.flatnonzero(begins(record[inside], number[inside]))


def evidence_of(log_ratio: Floats, at: IntArray) -> Floats:
    """Evidence of regions that begin ``at`` these of their rows.

    The sum of the rows' log-likelihood ratios over the root of how many they are: neighbours err
    together, so that a long region is less sure than the sum says.
    """
    count = np.diff(np.append(at, len(log_ratio)))
    evidence: Floats = np.add.reduceat(log_ratio, at) / np.sqrt(count)
    return evidence


def _regions(rows: pa.Table, number: IntArray, log_ratio: Floats, found: Posterior) -> pa.Table:
    """Regions of genes or chunks that are numbered."""
    record = rows["record_index"].to_numpy()
    inside, at = of_regions(record, number)
    if not len(at):
        return schemas.REGIONS.empty_table()
    count = np.diff(np.append(at, len(inside)))
    start, end = (rows[name].to_numpy()[inside] for name in ("start", "end"))
    log_none = found.log_stays[inside]
    log_none[at] = found.log_host[inside[at]]
    columns = {
        "record_id": rows["record_id"].take(pa.array(inside[at])),
        "record_index": record[inside[at]],
        "region": number[inside[at]],
        "start": start[at],
        "end": np.maximum.reduceat(end, at),
        "genes": count,
        "score": np.add.reduceat(found.viral[inside], at) / count,
        # That none of its rows is viral has the probability of a chain of rows of the host.
        "probability": -np.expm1(np.add.reduceat(log_none, at)),
        "evidence": evidence_of(log_ratio[inside], at),
    }
    return schemas.filled(schemas.REGIONS, columns, len(at))
