"""A dataclass made of JSON of unknown origin: every value has the type that its field says, or the JSON is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def typed(cls: type[T], values: Any) -> T:
    """Make a dataclass of a JSON object that has exactly its fields; those with a default may be missing.

    Args:
        cls: its fields are int, float, str, None, mappings, sequences, other such dataclasses, or unions of these.
        values: what `json.loads` gave.

    Raises:
        TypeError: something is of another type, missing or unknown; or a number is negative.
    """
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if not isinstance(values, dict) or not needed <= values.keys() <= known.keys():
        raise TypeError(f"{cls.__name__} of {values!r:.60}")
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(kind: Any, value: Any) -> Any:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _value(next(part for part in inside if part is not type(None)), value)
    if is_dataclass(kind):
        return typed(kind, value)  # type: ignore[arg-type]
    if origin is not None and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {key: _value(inside[1], part) for key, part in value.items()}
    elif origin is not None:
        if isinstance(value, list):
            return tuple(_value(inside[0], part) for part in value)
    elif kind is Any:
        return value
    elif kind is str:
        if isinstance(value, str):
            return value
    elif isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= 0:
        return value
    raise TypeError(f"{value!r:.60} where {kind} is expected")
