"""Dataclasses that check what people and files say, and what is told when they refuse it.

A field's type and limits are all there is to say about it: the check, the message and the JSON
schema (``TypeAdapter(kind).json_schema()``) follow from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import (
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import core_schema

from virnuc_dask.errors import BadSettingError

# A text is no number and 1 is not true, but 1 is 1.0. Made when first needed, not at import.
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "null": "null",
}
_LIMITS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "of at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
    "minItems": "of at least",
    "maxItems": "of at most",
}
_LONGEST_SHOWN = 200
Kind = TypeVar("Kind")
_Schema = Mapping[str, Any]


@dataclass_transform(frozen_default=True)
def checked(cls: type[Kind]) -> type[Kind]:
    """A frozen dataclass that refuses what its types and limits do not say: with a `ValueError`."""
    return cast(type[Kind], dataclass(cls, frozen=True, slots=True, config=_STRICT))


class _Told(type):
    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise BadSettingError(f"{explain(error, cls, cls.__name__)}.") from error


class Section(metaclass=_Told):
    """A group of settings: making one in Python raises `BadSettingError`."""

    __slots__ = ()


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A field with its default and limits, as `pydantic.Field` names them."""
    return Field(default, description=description, **limits)


def one_of(*choices: str) -> GetPydanticSchema:
    """For ``Annotated[str, one_of("a", "b")]``: one of ``choices``, and a text for who uses it."""
    return GetPydanticSchema(lambda *_: core_schema.literal_schema(list(choices)))


def build(kind: type[Kind], values: object, root: str) -> Kind:
    """Make a dataclass from plain values, such as those of a JSON or YAML file.

    `ValueError` names the first value that is refused, below ``root``, and what it may be.
    """
    # In JSON alone strictness lets a list be a tuple, and an object a dataclass.
    text = json.dumps(values, default=str)
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise ValueError(explain(error, kind, root)) from error


def explain(error: ValidationError, kind: type, root: str) -> str:
    """What is wrong with the first value of a ``kind`` that was refused; without a full stop."""
    first = error.errors(include_url=False)[0]
    name, schema = _place(TypeAdapter(kind).json_schema(), first["loc"], root)
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(name, str(first["loc"][-1]), sorted(schema["properties"]))
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "value_error":
        return f"{name} {first['ctx']['error']}"
    return f"{name} must be {_allowed(schema)}, not {shorten(repr(first['input']), _LONGEST_SHOWN)}"


def _place(whole: _Schema, path: Sequence[int | str], name: str) -> tuple[str, _Schema]:
    """Full name and schema of the value at ``path``, or of the group that does not know its end."""
    found = whole
    for part in path:
        group = _group(found, whole)
        if isinstance(part, int):
            inner = dict(enumerate(group.get("prefixItems", []))).get(part, group.get("items"))
        else:
            inner = group.get("properties", {}).get(part, group.get("additionalProperties"))
        if not inner:
            return name, group if "properties" in group else found
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
        found = inner
    return name, found


def _group(schema: _Schema, whole: _Schema) -> _Schema:
    """The schema itself, but for null, and not a reference to it."""
    option: _Schema = next(
        option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"
    )
    return whole["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option


def _unknown(group: str, name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # here, because most runs do without

    nearest = "".join(f"did you mean {each}? " for each in get_close_matches(name, known, 1))
    return f"unknown setting {group}.{name}; {nearest}known: {', '.join(known)}"


def _allowed(schema: _Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_allowed, schema["anyOf"]))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return f"one of {', '.join(choices)}"
    limits = [f"{word} {schema[limit]}" for limit, word in _LIMITS.items() if limit in schema]
    return f"{_KINDS.get(schema.get('type', ''), 'named values')} {' and '.join(limits)}".rstrip()
