"""Which Ray cluster computes an extraction, and with how many workers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import InputError

PATIENCE_S = 600.0
SHARDS = 20
"""A worker may be without progress for so many times the median time of a shard, and for `PATIENCE_S` at least."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that computes an extraction: ``isc_fast.extract(…, cluster=isc_fast.Cluster())``.

    Photos, engine and output must be there for all nodes under the same paths, and isc-fast must be installed on them. This
    machine must be one of the nodes.

    Attributes:
        address: ``HOST:PORT`` of its head. By default the cluster of ``RAY_ADDRESS``, else one that runs on this machine, else
            one that is started for this run and ended after it.
        workers: how few must be there before the work begins, and how many there may be; there are never more than shards. By
            default one at least, and as many as fit into the cluster at the start.
        cores: of each worker, for its engine and its decoder. By default 1; on GPUs what the cluster has for each of them.
        mixed: let machines compute that differ in what decides the last bits of a descriptor. By default the first worker
            says which they are, and unlike ones are refused.
        patience_s: seconds that a worker may be without progress, at least; see `SHARDS`. It is then killed, and others do
            its work.

    Raises:
        InputError: a number is out of range, or the address is none.
    """

    address: str | None = None
    workers: tuple[int, int] | None = None
    cores: int | None = None
    mixed: bool = False
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        if self.workers is not None and not 1 <= self.workers[0] <= self.workers[1]:
            least, most = self.workers
            raise InputError(f"workers are {least}:{most}; expected MIN:MAX with 1 ≤ MIN ≤ MAX, such as 2:8")
        if self.cores is not None and self.cores < 1:
            raise InputError(f"a worker needs 1 core at least, not {self.cores}")
        if self.patience_s <= 0:
            raise InputError(f"the patience must be more than 0 seconds, not {self.patience_s}")
        if self.address is not None:
            split_address(self.address)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a cluster's address.

    Raises:
        InputError: it is no address, or that of a Ray client, which this package does not use.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"{address} is the address of a Ray client; expected that of the head, HOST:PORT, from a machine of the cluster"
        )
    found = re.fullmatch(r"\[?([^\[\]\s/]+?)\]?:(\d{1,5})", address)
    if not found or not 0 < int(found[2]) < 65536:
        raise InputError(f"{address!r} is no address of a Ray cluster; expected HOST:PORT, such as 10.0.0.1:6379")
    return found[1], int(found[2])
