"""The first step of a run: what there is to do, and what decides its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import xxhash

from virnuc_dask.cluster.hardware import Hardware
from virnuc_dask.cluster.journal import logger
from virnuc_dask.config import Settings
from virnuc_dask.encoders.cost import operations_a_frame
from virnuc_dask.encoders.precision import AUTO, FOR_GPUS, are_looked_up, fastest_precision
from virnuc_dask.errors import (
    BadSettingError,
    BadTableError,
    ModelSetError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info, verified
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.sequences.chunks import Chunks
from virnuc_dask.sequences.partitions import Cutting, count_records, write_partitions
from virnuc_dask.sequences.records import hash_inputs, read_records
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.readings import pieces_of
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.inputs import Source
from virnuc_dask.tables.parquet import is_done
from virnuc_dask.tables.plan import Counts, Decisions, Plan, fingerprint, read_plan, refuse_change

# How long a worker shall be busy with a partition; operations a second that the encoders reach on a
# worker of a kind, in round figures (a core with AVX2; an H100); chunks with an open frame, of all.
_PARTITION_S = 5.0
_OPERATIONS_A_S = {"cpu": 5e10, "cuda": 2e14}
_FRAMES_A_CHUNK = 0.5
_FEWEST_CHUNKS, _MOST_CHUNKS = 4, 5000
# Of a model set that reads genes: bounds memory for contigs, and for reads.
_PARTITION_NT, _PARTITION_PIECES = 2_000_000, 10_000
# Of an input, by what is counted.
_WARNINGS = {
    "duplicate_ids": "record(s) repeat an id; they are kept apart by their place in the input "
    "(record_index).",
    "lone_mates": "read(s) have no mate beside them: each is called alone (pairs.tsv has no "
    "length_2 there).",
    "left_out": "secondary or supplementary alignment(s) were left out: their reads are there "
    "once, as primary ones.",
    "rna_records": "record(s) have U, which is read as T, and written as T.",
}


def make_plan(
    inputs: Sequence[Source],
    folder: RunFolder,
    settings: Settings,
    info: ModelSetInfo,
    record: Callable[[Plan], None] | None = None,
) -> Plan:
    """Read the input and write its partitions; or find that an earlier run did so.

    ``record`` writes ``run.json``; given, an earlier run in the folder is not looked at, and
    replaced as soon as the plan stands. Until then, and after any error, it is whole.
    `BadInputError` if the input cannot be read, `PlanChangedError` if the folder holds a run with
    other input, settings or weights, `OutputExistsError` if a file that no run made has the name of
    a table.
    """
    earlier = read_plan(folder) if record is None else None
    if earlier is not None and _partitions_intact(earlier):
        digest = xxhash.xxh3_128()
        hash_inputs(inputs, digest)
        decisions = _decide(digest.hexdigest(), inputs, settings, info)
        refuse_change(folder, earlier.decisions, decisions)
        return replace(earlier, decisions=decisions, keep_features=settings.features)
    with folder.planning() as stage:
        plan = _plan_anew(inputs, stage, settings, info)
        if earlier is not None:
            refuse_change(folder, earlier.decisions, plan.decisions)
        folder.require_free(len(plan.partitions))
        if record is not None:
            record(plan)
    return replace(plan, folder=folder)


def dry_run(inputs: Sequence[Source], settings: Settings) -> Counts:
    """Read and check the input and the model set, and count; writes nothing, but warns."""
    info = read_info(find(settings.model))
    length = chunk_length(settings, info)
    call_rule(settings, info, length)
    left_out = Counter[str]()
    records = read_records(inputs, left_out=left_out)
    counts = count_records(records, _cutting(info, length))
    counts = replace(counts, left_out=left_out.total())
    for message in warnings_of(counts, info, length):
        logger.warning(message)
    return counts


def plan_again(earlier: Plan, info: ModelSetInfo) -> Plan:
    """The plan that scores the stored features of ``earlier`` with the classifier of ``info``.

    `PlanChangedError` if the features were made by other encoders, `BadTableError` if a feature
    table is missing or damaged.
    """
    if info.encoders_checksum != earlier.decisions.encoders_checksum:
        raise PlanChangedError(
            f"{earlier.folder.path}: its features were made by other encoders than those of "
            f"model set {info.name!r}; make a new run with it."
        )
    if earlier.decisions.sources is None:
        raise PlanChangedError(
            f"{earlier.folder.path}: was planned by an earlier version; `run --resume` brings it "
            "up to date, and computes nothing again."
        )
    decisions = replace(earlier.decisions, modelset_checksum=info.checksum)
    plan = replace(earlier, decisions=decisions, rescore=True)
    for task in plan.tasks():
        path = plan.folder.features(task.index)
        if not is_done(path, task.features):
            raise BadTableError(
                f"{path}: {'damaged' if path.exists() else 'missing'}; "
                "`run --resume --features` makes it."
            )
    return plan


def chunk_length(settings: Settings, info: ModelSetInfo) -> int:
    """The chunk length asked for, or the model set's own.

    `BadSettingError` if the model set was not made for it.
    """
    length = settings.length if settings.length is not None else info.chunk_lengths[0]
    if length not in info.chunk_lengths:
        known = " or ".join(map(str, info.chunk_lengths))
        if info.reads_genes:
            raise BadSettingError(
                f"model set {info.name!r} reads genes; what has none goes by chunks of {known} nt, "
                f"not of {length}. Leave --length out, or choose another model set."
            )
        raise BadSettingError(f"model set {info.name!r} is for chunks of {known} nt, not {length}.")
    return length


def chunks_a_partition(info: ModelSetInfo, length: int, device: str) -> int:
    """Chunks of ``length`` nt that keep a worker busy for some seconds.

    By the operations of the encoders. A partition costs the engine some 10 ms whatever it holds,
    and small inputs must make more partitions than there are workers. Neither the number of
    workers nor what else this machine has decides: what is computed on one kind of device is cut
    alike everywhere.
    """
    encoders = (info.nucleotide, info.peptide)
    frame = sum(operations_a_frame(spec, length) for spec in encoders)
    wanted = _PARTITION_S * _OPERATIONS_A_S[device] / max(1.0, frame * _FRAMES_A_CHUNK)
    return int(min(_MOST_CHUNKS, max(_FEWEST_CHUNKS, wanted)))


def decided(
    settings: Settings, info: ModelSetInfo, hardware: Hardware, earlier: Plan | None = None
) -> Settings:
    """``settings`` with precision, size of partitions and gene caller decided.

    As asked for; else as in the ``earlier`` run; else what is best for the hardware.
    `BadSettingError` if ``fp16`` or ``fp8`` is asked for on a CPU, or an earlier run computed so; a
    gene caller for a model set that reads no genes.
    """
    precision = settings.precision
    if precision == AUTO:
        fastest = fastest_precision(hardware.device, hardware.processor, _architectures(info))
        precision = earlier.decisions.precision if earlier else fastest
    if precision in FOR_GPUS and hardware.device == "cpu":
        raise BadSettingError(
            f"precision {precision} is for GPUs: CPUs have no fast products for it. "
            + (
                f"The run in {earlier.folder.path} was planned so: resume it on GPUs."
                if earlier and settings.precision == AUTO
                else "Leave --precision out, or choose bf16 or fp32."
            )
        )
    settings = replace(settings, precision=precision)
    made = earlier.decisions if earlier else None
    chunks = settings.partition_chunks or (made.partition_chunks if made else None)
    if info.genes is not None:
        return replace(
            settings,
            partition_chunks=chunks or _PARTITION_PIECES,
            partition_nt=settings.partition_nt or (made.partition_nt if made else _PARTITION_NT),
            gene_caller=settings.gene_caller or (made.gene_caller if made else info.genes.caller),
        )
    if settings.gene_caller is not None:
        raise BadSettingError(
            f"--gene-caller is for model sets that read genes; {info.name!r} reads frames. "
            "Leave it out, or choose another model set."
        )
    chunks = chunks or chunks_a_partition(info, chunk_length(settings, info), hardware.device)
    return replace(settings, partition_chunks=chunks, partition_nt=None)


def source_of(
    settings: Settings, info: ModelSetInfo, hardware: Hardware, *, encoders: bool = True
) -> ModelSource:
    """The model set to load, and how: the same on every worker, so that all compute alike."""
    kernels = hardware.device == "cpu" and encoders and not are_looked_up(_architectures(info))
    return replace(
        ModelSource.from_settings(settings, info, encoders=encoders),
        device=hardware.device,
        instructions=hardware.processor.instructions if kernels else None,
    )


def call_rule(settings: Settings, info: ModelSetInfo, length: int) -> CallRule:
    """What makes a record a virus, for chunks of ``length`` nt.

    `UsageError` if a false discovery rate is asked for and the model set has no calibration,
    `ModelSetError` if its contig model is missing, damaged, or made for another model set.
    """
    calibration = info.calibration_for(length)
    if (spec := info.contig_model) is not None:
        folder = find(settings.model)
        with verified(folder, info, [spec.file]):
            model = ContigModel.load(folder / spec.file)
        _require_fit(model, info, folder / spec.file)
        return CallRule(calibration, settings.fdr, model, spec.called, spec.reliable)
    if settings.fdr is not None and calibration is None:
        raise UsageError(
            f"--fdr: model set {info.name!r} has no calibration for chunks of {length} nt, and so "
            "no q-values. Leave --fdr out, or choose another model set."
        )
    return CallRule(calibration, settings.fdr)


def _require_fit(model: ContigModel, info: ModelSetInfo, path: Path) -> None:
    """Check that a contig model looks at what the model set's predictions hold."""
    widths = {reader.columns for reader in model.readers.values()}
    if model.regions is not None:
        widths.add(len(model.regions.weight))
    wanted = 1 + len(info.evidence)
    if info.reading not in model.readers or widths != {wanted}:
        raise ModelSetError(
            f"{path}: not a contig model for {info.reading} with {wanted} column(s) of evidence, "
            f"which {info.name!r} has."
        )


def warnings_of(counts: Counts, info: ModelSetInfo, length: int) -> Iterator[str]:
    """What the user should know about an input that is cut into chunks of ``length`` nt."""
    if not info.is_trained:
        yield (
            f"model set {info.name!r} has no trained classifier: its scores and calls mean nothing "
            "until `virnuc-dask train` has made one for its encoders."
        )
    if not counts.records:
        yield "the input holds no records; the result files hold their headers only."
    for name, words in _WARNINGS.items():
        if number := getattr(counts, name):
            yield f"{number} {words}"
    if counts.shorter_records and info.genes is not None:
        yield (
            f"{counts.shorter_records} of {counts.records} records are shorter than "
            f"{info.genes.shortest_nt} nt: too short for a gene, they are read by frames, and "
            "their calls are less certain."
        )
    elif counts.shorter_records:
        yield (
            f"{counts.shorter_records} of {counts.records} records are shorter than the {length} "
            "nt that the model set was made for; their scores are less certain."
        )


def warnings_of_speed(settings: Settings, info: ModelSetInfo, hardware: Hardware) -> Iterator[str]:
    """What the user should know about a precision that this hardware is slow in."""
    slow = hardware.device == "cpu" and not hardware.processor.multiplies_bf16
    if settings.precision == "bf16" and slow and not are_looked_up(_architectures(info)):
        yield (
            "precision bf16 is slow here: not every processor multiplies bf16 in hardware. fp32 is "
            "faster (leave --precision out)."
        )


def _architectures(info: ModelSetInfo) -> tuple[str, str]:
    return info.nucleotide.architecture, info.peptide.architecture


def _cutting(info: ModelSetInfo, length: int) -> Cutting:
    return Chunks(length) if info.genes is None else pieces_of(info.genes)


def _plan_anew(
    inputs: Sequence[Source], folder: RunFolder, settings: Settings, info: ModelSetInfo
) -> Plan:
    digest, left_out = xxhash.xxh3_128(), Counter[str]()
    decisions = _decide("", inputs, settings, info)
    counts, partitions = write_partitions(
        read_records(inputs, digest, left_out),
        folder,
        _cutting(info, decisions.chunk_length),
        decisions.partition_chunks,
        lambda: replace(decisions, input_digest=digest.hexdigest()).records_fingerprint,
        decisions.partition_nt,
    )
    decisions = replace(decisions, input_digest=digest.hexdigest())
    counts = replace(counts, left_out=left_out.total())
    return Plan(folder, decisions, counts, partitions, settings.features)


def _decide(
    input_digest: str, inputs: Sequence[Source], settings: Settings, info: ModelSetInfo
) -> Decisions:
    if settings.partition_chunks is None:
        raise ValueError("the size of partitions is not decided")
    genes = info.genes
    return Decisions(
        input_digest=input_digest,
        chunk_length=chunk_length(settings, info),
        partition_chunks=settings.partition_chunks,
        precision=settings.precision,
        encoders_checksum=info.encoders_checksum,
        modelset_checksum=info.checksum,
        features_dtype=settings.features_dtype,
        gene_caller=settings.gene_caller,
        piece_nt=genes.piece_nt if genes else None,
        overlap_nt=genes.overlap_nt if genes else None,
        partition_nt=settings.partition_nt,
        sources=fingerprint(*(each.mark(alone=len(inputs) == 1) for each in inputs)),
    )


def _partitions_intact(plan: Plan) -> bool:
    if plan.decisions.sources is None:  # an earlier version's: it has no samples
        return False
    tables = [(plan.folder.partition(part.index), part.content) for part in plan.partitions]
    tables.append((plan.folder.records, plan.records_fingerprint))
    return all(is_done(path, content) for path, content in tables)
