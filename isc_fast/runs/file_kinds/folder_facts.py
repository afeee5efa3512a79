"""What there is to say of folders that isc-fast makes: an index, and what an unfinished extraction has done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...decoders.views import ONLY_WHOLE
from ...errors import FormatError
from ...extraction.parts import PARTS, PartsFolder
from ...matching.index.layout import read_manifest


def describe_index(folder: Path) -> dict[str, Any]:
    """What an index is, as plain data for JSON. Only its manifest is read.

    Raises:
        FormatError: its manifest is damaged, or of another version.
    """
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
    return {**about, **manifest.meta}


def describe_parts(folder: Path) -> dict[str, Any]:
    """What the folder of an unfinished extraction holds, as plain data for JSON. Only its plan is read.

    Raises:
        FormatError: its plan is damaged, of another version, or not there.
    """
    parts = PartsFolder(folder.with_name(folder.name.removesuffix(PARTS)))
    plan = parts.found_plan()
    if plan is None:
        raise FormatError(f"{folder} holds no plan of this version; run the isc-fast extract again that began it")
    done = sum(parts.part(index).exists() for index in range(plan.shard_count))
    settings: dict[str, Any] = {name: getattr(plan, name) for name in ("engine_id", "decoder", "batch_size")}
    settings |= {} if plan.views == ONLY_WHOLE else {"views": list(plan.views)}
    about = {"output": str(parts.output), "images": len(plan.items), "parts": plan.shard_count, "parts_done": done}
    return {**about, "inputs": list(plan.inputs), **settings}
