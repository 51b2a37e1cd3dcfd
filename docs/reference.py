"""The parts of the reference that are made from the code: a hook of MkDocs.

A line ``{{ name }}`` or ``{{ name: argument }}`` of a page is replaced by what the function of that
name in `MAKERS` returns. Nothing here needs MkDocs or torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import yaml
from pydantic import TypeAdapter

import virnuc_dask
from virnuc_dask.cli import cli
from virnuc_dask.config import Settings
from virnuc_dask.encoders.cost import ESM2, esm2_parameters, layer_of, operations_a_frame
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.outputs import genomad, published
from virnuc_dask.outputs.fields import header
from virnuc_dask.tables import schemas

_TOKENS = 168  # of the peptide of a 500 nt chunk's open frame, begin and end too
HERE = Path(__file__).parent
ROOT = HERE.parent
_MARK = re.compile(r"^\{\{ (\w+)(?:: (\S+))? \}\}$", re.MULTILINE)
_FETCHED = re.compile(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(#[^)]*)?\)")


def _merged(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The columns of both: those of one kind of model set, then what the other has besides."""
    return pa.schema([*one, *(field for field in other if field.name not in one.names)])


# Tables by the file that they are in. Sizes of embeddings are those of the published models.
TABLES = {
    "records.parquet": schemas.RECORDS_WITH_ENDS,
    "partition": schemas.PARTITION,
    "features": schemas.features(768, 2560),
    "gene_features": schemas.features(768, 2560, genes=True),
    "predictions": schemas.PREDICTIONS,
    "gene_predictions": schemas.gene_predictions(1),
    "chunks.parquet": schemas.CHUNKS_OF_SAMPLES,
    "genes.parquet": schemas.GENES,
}
TEXTS = {
    "contigs.tsv": header(_merged(schemas.CONTIGS_OF_GENES, schemas.CONTIGS)),
    "pairs.tsv": header(schemas.PAIRS),
    "virus_regions.tsv": header(_merged(schemas.regions("genes"), schemas.regions("chunks"))),
    "prediction_results.txt": published.FRAMES_HEADER,
    "prediction_results_highestscore.csv": "\t".join(published.BY_ID_WITH_SCORES.names),
    "virus_summary.tsv": genomad.SUMMARY_HEADER,
    "failed.tsv": "chunk_id\trecord_id\tpartition\treason\n",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs asks this for the text of every page."""
    return _MARK.sub(lambda mark: MAKERS[mark[1]](*filter(None, mark.groups()[1:])), markdown)


def on_post_page(output: str, **_: object) -> str:
    """Refuse a page that a browser could not show without a network."""
    if found := _FETCHED.search(output):
        raise ValueError(f"fetched from elsewhere: {found[0]}")
    return output


def commands() -> str:
    """Every command with its options, as click knows them."""
    return "\n".join(_command(*each) for each in _commands(cli, "virnuc-dask"))


def _commands(group: click.Group, name: str) -> Iterator[tuple[click.Context, click.Command]]:
    context = click.Context(group, info_name=name)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {each}")
        elif command is not None:
            yield click.Context(command, info_name=f"{name} {each}"), command


def _command(context: click.Context, command: click.Command) -> str:
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    title = (context.info_name or "").removeprefix("virnuc-dask ")
    lines = [f"## {title}", f"```\n{usage}\n```", _paragraphs(command.help or "")]
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if isinstance(param, click.Option) and record and "--help" not in param.opts:
            lines.append(f"`{record[0]}`\n:   {record[1]}")
    return "\n\n".join(lines) + "\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def settings() -> str:
    """Every setting with its default, its values and what it is for, from the schema."""
    schema = TypeAdapter(Settings).json_schema()
    groups = _groups("", schema, schema.get("$defs", {}))
    return "\n\n".join(_settings_table(name, group) for name, group in groups)


def _groups(
    name: str, group: Mapping[str, Any], defined: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A group of settings and those in it, each by its dotted name."""
    inner = {
        key: defined[value["$ref"].rpartition("/")[2]]
        for key, value in group["properties"].items()
        if "$ref" in value
    }
    plain = {key: value for key, value in group["properties"].items() if key not in inner}
    yield name, {**group, "properties": plain}
    for key, value in inner.items():
        yield from _groups(f"{name}{key}.", value, defined)


def _settings_table(name: str, group: Mapping[str, Any]) -> str:
    title = f"`{name.rstrip('.')}`" if name else "The run"
    rows = (
        (
            _name(f"{name}{key}"),
            _code(value.get("default")),
            _values(value),
            value.get("description", ""),
        )
        for key, value in group["properties"].items()
    )
    header = ("setting", "default", "values", "what it is for")
    return f"## {title}\n\n{group.get('description', '')}\n\n{_table(header, rows)}"


def _name(name: str) -> str:
    """A name in a table's first column, which is not to be broken in its middle."""
    return f'`{name}`{{ style="white-space: nowrap" }}'


def _code(value: object) -> str:
    shown = {None: "", True: "true", False: "false"}
    if isinstance(value, bool) or value is None:
        value = shown[value]
    return f"`{value}`" if value != "" else ""


def _values(schema: Mapping[str, Any]) -> str:
    """What a setting may be, for people."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return " or ".join(map(_kind, kinds))


_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_KINDS = {"integer": "whole number", "string": "text", "boolean": "`true` or `false`"}


def _kind(schema: Mapping[str, Any]) -> str:
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = _KINDS.get(schema["type"], schema["type"])
    limits = [f"{word} {schema[limit]}" for limit, word in _LIMITS.items() if limit in schema]
    return ", ".join([kind, *limits])


def columns(name: str) -> str:
    """The columns of a table or a text file, with what they mean (``columns.yaml``)."""
    meanings = yaml.safe_load((HERE / "columns.yaml").read_text(encoding="utf-8"))
    own = {**meanings["all"], **meanings.get(name, {})}
    if name in TEXTS:
        names = TEXTS[name].rstrip("\n").split("\t")
        return _table(("column", "meaning"), ((_name(each), own[each]) for each in names))
    rows = ((_name(field.name), _type(field.type), own[field.name]) for field in TABLES[name])
    return _table(("column", "type", "meaning"), rows)


RESULTS = {  # tables of results as they are for each kind of model set
    "contigs-frames": ("contigs.tsv", schemas.CONTIGS),
    "contigs-genes": ("contigs.tsv", schemas.CONTIGS_OF_GENES),
    "pairs": ("pairs.tsv", schemas.PAIRS),
    "virus-regions-frames": ("virus_regions.tsv", schemas.regions("chunks")),
    "virus-regions-genes": ("virus_regions.tsv", schemas.regions("genes")),
    "chunks": ("chunks.parquet", schemas.CHUNKS_OF_SAMPLES),
    "genes": ("genes.parquet", schemas.GENES),
}
_FRICTIONLESS = {"string": "string", "double": "number", "float": "number", "bool": "boolean"}


def table_schemas() -> dict[str, Any]:
    """The result tables as a Frictionless Data Package, each with its Table Schema."""
    meanings = yaml.safe_load((HERE / "columns.yaml").read_text(encoding="utf-8"))
    return {
        "name": "virnuc-dask-results",
        "version": str(schemas.RESULTS_VERSION),
        "resources": [
            _resource(name, path, schema, meanings["all"] | meanings.get(path, {}))
            for name, (path, schema) in RESULTS.items()
        ],
    }


def _resource(
    name: str, path: str, schema: pa.Schema, meanings: Mapping[str, str]
) -> dict[str, Any]:
    fields = [
        {
            "name": field.name,
            "type": _FRICTIONLESS.get(str(field.type), "integer"),
            "description": meanings[field.name],
        }
        for field in schema
    ]
    form = path.rpartition(".")[2]
    text = {"dialect": {"delimiter": "\t"}, "encoding": "utf-8"} if form == "tsv" else {}
    table = {"fields": fields, "missingValues": [""]}
    return {"name": name, "path": path, "format": form, **text, "schema": table}


def _type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.FixedSizeListType):
        return f"list of {kind.value_type}"
    return str(kind)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def esm2() -> str:
    """The published sizes of ESM-2, and what each costs."""
    header = (
        *("ESM-2", "layers", "width", "weights", "fp32", "fp16 or bf16"),
        *("GFLOP a token", "GFLOP a frame of 300 nt", "of 500 nt"),
    )
    return _table(header, (_esm2_row(name, *sizes) for name, sizes in ESM2.items()))


def _esm2_row(name: str, layers: int, dim: int, heads: int) -> Iterator[str]:
    spec = EncoderSpec("esm2", dim, "", {"layers": layers, "embed_dim": dim, "heads": heads})
    weights = esm2_parameters(layers, dim)
    yield from (name, f"{layers}", f"{dim:,}", f"{weights:,}")
    yield from (f"{weights * size / 1e9:.2f} GB" for size in (4, 2))
    layer = layer_of(spec)
    assert layer is not None
    yield f"{layer.flops_per_token(_TOKENS) / 1e9:.3f}"
    yield from (f"{operations_a_frame(spec, length) / 1e9:,.1f}" for length in (300, 500))


def python() -> str:
    """The public names of the package, `run` first, from their docstrings."""
    homes = {"run": "run"} | virnuc_dask._HOMES
    names = sorted(homes, key=lambda name: (name.lower() != "run", name.lower()))
    shown = [name for name in names if homes[name] != "errors"]
    return "\n\n".join(f"::: virnuc_dask.{homes[name]}.{name}" for name in shown)


def errors() -> str:
    """The error tree."""
    return (
        "::: virnuc_dask.errors\n    options:\n      filters: ['!harmless']\n"
        "      members_order: source\n      show_root_heading: false\n"
        "      show_root_toc_entry: false"
    )


def notebook(name: str) -> str:
    """A notebook beside the page: its text, its code, and what that showed."""
    cells = json.loads((HERE / "pages/notebooks" / name).read_text(encoding="utf-8"))["cells"]
    first, *more = map(_cell, cells)
    return "\n\n".join([first, f"[This page as a notebook]({name})", *more])


def _cell(cell: Mapping[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    shown = ("".join(output["data"]["text/plain"]) for output in cell["outputs"])
    return "\n\n".join([f"```python\n{source}\n```", *(f"```text\n{text}\n```" for text in shown)])


def root(name: str) -> str:
    """A page of the repository's root; links to what is not on the site become plain text."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return _LINK.sub(_on_site, text)


def _on_site(link: re.Match[str]) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if target.startswith("docs/pages/"):
        return f"[{text}](../{target.removeprefix('docs/pages/')}{anchor})"
    page = f"{Path(target).stem.lower()}.md"
    if (HERE / "pages/project" / page).exists():
        return f"[{text}]({page}{anchor})"
    return text


MAKERS: Mapping[str, Callable[..., str]] = {
    "columns": columns,
    "commands": commands,
    "errors": errors,
    "esm2": esm2,
    "notebook": notebook,
    "python": python,
    "root": root,
    "settings": settings,
}

if __name__ == "__main__":
    text = json.dumps(table_schemas(), indent=2, ensure_ascii=False)
    (HERE / "pages/reference/tables.schema.json").write_text(text + "\n", encoding="utf-8")
