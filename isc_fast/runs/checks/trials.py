"""Everything that `isc_fast.runs.checks.doctor` tries out: decoders, every kind of engine, and search.

Each trial does a tiny piece of the real work and returns one line about what it saw. It runs in a process of its own, so this
module is light, and every function imports what it tries.
"""

from __future__ import annotations

from typing import Any

from ...engines.kinds import KINDS
from ...machine.trial_run import Trial

_CPU, _GPU = "pip install 'isc-fast[cpu]'", "pip install 'isc-fast[gpu]'"


def try_decoder(name: str) -> str:
    """Decode a photo by one of isc-fast's decoders and compare it with Pillow's pixels."""
    from ...assets import demo_photos
    from ...decoders.base import make_decoder
    from ...decoders.preprocessing import Preprocessing

    photo = str(demo_photos()[0])

    def decode(decoder: str) -> Any:
        batch = next(iter(make_decoder(decoder, 1).batches([[photo]], Preprocessing(64, 64))))
        if batch.problems[0]:
            raise RuntimeError(f"a good photo was refused: {batch.problems[0].reason}")
        return batch.pixels[0].astype(int)

    off = abs(decode(name) - decode("pillow")).max()
    return f"a photo decoded; pixels differ from pillow's by {off} at most"


def try_dali(kind: str) -> str:
    """Decode a photo by DALI's decoder ``"cpu"`` or ``"mixed"``, which is on the GPU."""
    import importlib

    import numpy as np

    from ...assets import demo_photos

    dali: Any = importlib.import_module("nvidia.dali")
    importlib.import_module("nvidia.dali.fn")
    data = np.frombuffer(demo_photos()[0].read_bytes(), np.uint8)
    pipe = dali.Pipeline(batch_size=1, num_threads=1, device_id=0 if kind == "mixed" else None)
    with pipe:
        photo = dali.fn.decoders.image(dali.fn.external_source(lambda: [data], batch=True), device=kind)
        pipe.set_outputs(dali.fn.resize(photo, size=(64, 64), interp_type=dali.types.INTERP_LINEAR, antialias=True))
    pipe.build()
    (found,) = pipe.run()
    found = found.as_cpu() if kind == "mixed" else found
    pixels = np.array(found.at(0))
    if pixels.shape != (64, 64, 3) or not pixels.std() > 0:
        raise RuntimeError(f"DALI gave an empty picture {pixels.shape}")
    return f"DALI {dali.__version__}, a photo decoded by its {kind} decoder"


def try_faiss() -> str:
    """Find 64 rows again with faiss on the processor."""
    import importlib

    import numpy as np

    faiss: Any = importlib.import_module("faiss")
    rows = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    index = faiss.IndexFlatL2(16)
    index.add(rows)
    _, found = index.search(rows, 1)
    if found[:, 0].tolist() != list(range(64)):
        raise RuntimeError("the nearest neighbours are wrong")
    return f"faiss {faiss.__version__}, 64 rows found again"


def try_faiss_gpu() -> str:
    """Search with faiss on every GPU and compare the neighbours with numpy's."""
    import importlib

    from ...matching.searchers.gpu_probe import try_gpus

    count, _ = try_gpus("cuda:all")
    faiss: Any = importlib.import_module("faiss")
    return f"faiss {faiss.__version__}, neighbours found on {count} GPU{'s' * (count > 1)}"


_DECODERS = (
    Trial("decoders", "pillow", try_decoder, "pip install isc-fast", ("pillow",)),
    Trial("decoders", "turbo", try_decoder, "pip install simplejpeg cykooz-resizer", ("turbo",)),
    Trial("decoders", "DALI, processor", try_dali, "pip install nvidia-dali-cuda130", ("cpu",)),
    Trial("decoders", "DALI, GPU", try_dali, _GPU, ("mixed",), needs_gpu=True),
)
_SEARCH = (
    Trial("search", "faiss", try_faiss, _CPU, shares="faiss"),
    Trial("search", "faiss, GPU", try_faiss_gpu, _GPU, needs_gpu=True, shares="faiss"),
)


def all_trials() -> tuple[Trial, ...]:
    """Return every trial, in the order in which they are shown; those of engines stand in the table of kinds."""
    return (*_DECODERS, *(trial for kind in KINDS.values() for trial in kind.trials), *_SEARCH)
