"""What there is to say of folders that isc-fast makes: an index, and what an unfinished extraction has done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..decoders.views import ONLY_WHOLE
from ..errors import FormatError
from ..extraction.parts import PARTS, PartsFolder
from ..matching.index.layout import has_manifest, read_manifest


def describe_folder(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What a folder is, as plain data for JSON; None for one that is neither. Only the manifest or the plan is read.

    Raises:
        FormatError: its manifest or its plan is damaged, or of another version.
    """
    folder = Path(path)
    if has_manifest(folder):
        return _index(folder)
    return _parts(folder) if folder.is_dir() and folder.name.endswith(PARTS) else None


def _index(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    segments = [
        {"rows": facts.rows, "removed": facts.gone, "lists": facts.lists and facts.lists.factory}
        for facts in manifest.segments
    ]
    promise = {
        "recall": manifest.promise.recall,
        "k": manifest.promise.k,
        "memory_bytes": manifest.promise.memory_bytes,
    }
    about = {"count": manifest.live, "dim": manifest.dim, "segments": segments, "promise": promise}
    return {"kind": "index", "path": str(folder), **about, **manifest.meta}


def _parts(folder: Path) -> dict[str, Any]:
    parts = PartsFolder(folder.with_name(folder.name.removesuffix(PARTS)))
    plan = parts.found_plan()
    if plan is None:
        raise FormatError(f"{folder} holds no plan of this version; run the isc-fast extract again that began it")
    done = sum(parts.part(index).exists() for index in range(plan.shard_count))
    settings: dict[str, Any] = {name: getattr(plan, name) for name in ("engine_id", "decoder", "batch_size")}
    settings |= {} if plan.views == ONLY_WHOLE else {"views": list(plan.views)}
    about = {"output": str(parts.output), "images": len(plan.items), "parts": plan.shard_count, "parts_done": done}
    return {"kind": "unfinished extraction", "path": str(folder), **about, "inputs": list(plan.inputs), **settings}
