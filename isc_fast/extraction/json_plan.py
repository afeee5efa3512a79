"""Plans in JSON, as isc-fast 0.1 wrote them: this version finishes the extractions that 0.1 began."""

from __future__ import annotations

import os

from ..files.lazy import BLOCK
from ..files.reading import parse_json
from ..files.table import TemporaryTable
from ..items import Item
from .plan import Plan, damage_in_words


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def read_json_plan(file: str | os.PathLike[str]) -> Plan:
    """Read a plan in JSON. Its items go to a temporary table.

    The file is one JSON document in lines: first everything but the items, then 4096 items a line, then the closing brackets.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: the file is damaged or of another version.
    """
    with open(file, "rb") as stream, damage_in_words(file):
        values = parse_json(stream.readline().decode("ascii").strip() + "]}")
        items = TemporaryTable()
        plan = Plan.of_values(values, items, file)
        rows: list[Item] = []
        for number, line in enumerate(stream, 2):
            if line.strip() == b"]}":
                return plan
            if number > 2 and len(rows) != BLOCK:
                raise ValueError(f"line {number - 1} has {len(rows)} images")
            pairs = parse_json(f"[{line.decode('ascii').strip().removesuffix(',')}]")
            rows = [Item(*map(_text, pair)) for pair in pairs]
            if not rows:
                raise ValueError(f"line {number} has no images")
            items.extend(rows)
        raise ValueError("it is cut short")
