"""What an extraction asks of whoever computes its shards.

A runner knows an engine and the machines to run it on. `isc_fast.extraction.pipeline` asks it for facts about the
engine, makes the plan of these, and then gives the runner the shards that are missing. Each shard becomes one part file
in the output's folder, and what is in a part depends on the plan alone: so a runner may compute the shards in any
order, anywhere, and more than once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol, Self

from ...decoders.contents import digests_of
from ...engines.base import Engine, abilities, gpu_of
from ...engines.spec import EngineSpec
from ...errors import EngineError, MissingExtraError
from ...items import Item
from ...machine.gpus import find_device
from ...machine.likeness import hardware
from ...progress import Tally
from ...sources.base import Source
from ..parts import PartsFolder
from ..plan import Digesting, Plan


@dataclass(frozen=True)
class Facts:
    """What an extraction must know about an engine before anything is computed.

    Attributes:
        id: SHA-256 of the engine file; see `isc_fast.engines.base.Engine`.
        spec: what the engine promises.
        default_batch_size: images in one engine call that suit the engine.
        takes_gpu_pixels: whether the engine takes batches that are on its GPU already, so that decoding there is worth
            most.
    """

    id: str
    spec: EngineSpec
    default_batch_size: int
    takes_gpu_pixels: bool

    @classmethod
    def of(cls, engine: Engine) -> Facts:
        """The facts about a loaded engine."""
        return cls(engine.id, engine.spec, engine.default_batch_size, abilities(engine).takes_gpu_pixels)

    def message(self) -> dict[str, Any]:
        """They as a message between processes; `of_message` is the way back."""
        return {**vars(self), "spec": self.spec.to_json()}

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """The facts of a message, which may hold more."""
        values = {entry.name: message[entry.name] for entry in fields(cls)}
        return cls(**{**values, "spec": EngineSpec.from_json(values["spec"])})


@dataclass(frozen=True)
class Work:
    """The shards that a runner must compute.

    Attributes:
        plan: the plan of the extraction; it also names the decoder and the batch size.
        missing: the indices of the shards to compute.
        parts: the folder that takes the parts.
        lock: the file descriptor of the folder's lock. A process that inherits it holds the lock too, so no other
            extraction begins in the folder while that process lives. None where nothing is locked.
        source: opens the photos. If it is not `by_path`, only this process can.
        checksum: whether the parts get digests of the photos' bytes. A part without them is right too: then size and time decide
            whether its photos have changed.
    """

    plan: Plan
    missing: Sequence[int]
    parts: PartsFolder
    lock: int | None
    source: Source
    checksum: bool = False

    @property
    def expansion(self) -> dict[str, Any] | None:
        """What gives the images of containers, as a message to other processes; None where the plan has images."""
        expansion = self.source.expansion
        return None if expansion is None else expansion.message()

    def images(self, index: int) -> Sequence[Item]:
        """The first images of a shard: all, or those of its first container."""
        items = self.plan.shard(index).items
        return items if self.source.expansion is None else self.source.expansion(items[:1])

    @property
    def digesting(self) -> Digesting | None:
        """What gives the digests of a shard's photos in this process, or None; see `isc_fast.extraction.compute.Equipment`."""
        return partial(digests_of, photo_of=self.source.content) if self.checksum else None


def device_of(engine: Engine) -> dict[str, str]:
    """What an engine computes on here, with everything that decides about the last bits of a descriptor, in words by name."""
    gpu = None
    if hasattr(engine, "gpu"):
        with contextlib.suppress(EngineError, MissingExtraError):
            gpu = str(find_device(gpu_of(engine)))
    return hardware(engine.device, gpu)


class Runner(Protocol):
    """Computes the shards of an extraction."""

    @property
    def facts(self) -> Facts:
        """What the engine is. The first call may load the engine; later calls return the same.

        Raises:
            EngineError: the engine cannot be loaded.
        """
        ...

    def run(self, work: Work, tally: Tally) -> None:
        """Compute all missing shards and store their parts.

        The runner makes the decoder that the plan names. It calls ``tally.begin()`` once, when everything is loaded,
        and ``tally.add`` as images are done. The parts that are complete stay, also when this raises.

        Raises:
            IscFastError: a shard could not be computed or stored.
        """
        ...
