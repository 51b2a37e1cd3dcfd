"""Genes of whole records → regions: runs of viral genes, where their neighbours say so too.

The probability that a gene is viral, given all genes of its record, is that of a hidden Markov
model (forward and backward; Rabiner, Proceedings of the IEEE 77 (1989), 257-286). Both directions
are products of matrices of two rows along the record, taken for all genes at once by doubling.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.modelsets.region_model import Floats, RegionModel, structure
from virnuc_dask.tables import schemas
from virnuc_dask.tables.vectors import from_column

IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOST, VIRUS = 0, 1


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
    if model is not None:
        neighbours = structure(record, start, end, pc.equal(genes["strand"], "+").to_numpy())
        chance, number = find(from_column(genes, "evidence"), neighbours, record, model)
    columns = [
        *genes.select(schemas.GENES.names[:-2]).columns,
        pa.array(chance, pa.float32(), from_pandas=True),  # not a number is null
        pa.array(number, pa.int32(), mask=number == 0),
    ]
    return pa.table(columns, schema=schemas.GENES), _regions(genes, number, chance)


def find(
    evidence: NDArray[np.float32], neighbours: Floats, record: IntArray, model: RegionModel
) -> tuple[Floats, IntArray]:
    """Each gene's probability to be viral, and its region's number, as `number_runs`.

    ``neighbours`` are `region_model.structure` of the genes.
    """
    chance = viral_probability(model.log_ratio(evidence, neighbours), record, model)
    return chance, number_runs(chance >= 0.5, record, model.least_genes)


def viral_probability(log_ratio: Floats, record: IntArray, model: RegionModel) -> Floats:
    """Probability of each gene to be viral, from all genes of its record."""
    if not len(record):
        return np.zeros(0)
    likelihood = np.exp(np.stack([np.minimum(-log_ratio, 0), np.minimum(log_ratio, 0)], axis=1))
    moves = np.array([[1 - model.enter, model.enter], [model.leave, 1 - model.leave]])
    is_first = np.diff(record, prepend=record[0] - 1) != 0
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
    chance: Floats = both[:, VIRUS] / both.sum(axis=1)
    return chance


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
    number = np.zeros(len(record), np.int64)
    if not len(record):
        return number
    changes = (np.diff(record, prepend=record[0] - 1) != 0) | np.diff(is_viral, prepend=False)
    run = np.cumsum(changes) - 1
    first = np.flatnonzero(changes)
    kept = is_viral[first] & (np.bincount(run) >= least)
    # Runs that are kept, less those of the records before.
    count = np.cumsum(kept)
    of_record = record[first]
    before = np.maximum.accumulate(
        np.where(np.diff(of_record, prepend=of_record[0] - 1) != 0, count - kept, 0)
    )
    number[:] = np.where(kept, count - before, 0)[run]
    return number


def _regions(genes: pa.Table, number: IntArray, chance: Floats) -> pa.Table:
    inside = np.flatnonzero(number)
    record = genes["record_index"].to_numpy()[inside]
    number = number[inside]
    at = np.flatnonzero((np.diff(record, prepend=-1) != 0) | (np.diff(number, prepend=0) != 0))
    if not len(at):
        return schemas.REGIONS.empty_table()
    count = np.diff(np.append(at, len(inside)))
    start, end = (genes[name].to_numpy()[inside] for name in ("start", "end"))
    columns = [
        genes["record_id"].take(pa.array(inside[at])),
        pa.array(record[at]),
        pa.array(number[at], pa.int32()),
        pa.array(start[at]),
        pa.array(np.maximum.reduceat(end, at)),
        pa.array(count),
        pa.array(np.add.reduceat(chance[inside], at) / count),
    ]
    return pa.table(columns, schema=schemas.REGIONS)
