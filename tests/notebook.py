"""Runs the cells of a notebook one after the other, in one namespace, without Jupyter.

    python tests/notebook.py examples/first_look.ipynb    runs them in a temporary folder, and writes their outputs anew

What a cell prints is an output, and so is its last expression if that is a picture, which Jupyter would show.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells that hold code."""
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def run_cell(code: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one cell, and return its outputs in the form of a notebook."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), namespace)
        value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    if isinstance(value, Image.Image):
        jpeg = io.BytesIO()
        value.convert("RGB").save(jpeg, "JPEG", quality=80)
        data = {"image/jpeg": base64.b64encode(jpeg.getvalue()).decode("ascii"), "text/plain": ["a picture"]}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return outputs


def main(name: str) -> None:
    """Write the outputs of a notebook anew."""
    path = Path(name).resolve()
    notebook, namespace = json.loads(path.read_text("utf-8")), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = run_cell("".join(cell["source"]), namespace)
        os.chdir(path.parent)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
