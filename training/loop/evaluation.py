"""The evaluation during training: it measures µAP of the network on a held-out set.

It works in memory. It needs no engine and no files, and it does not load faiss beside torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from ...decoders.opening import ImageProblem
from ...decoders.rules import load_input
from ...evaluation.metrics import PER_QUERY_CAP, Scores, evaluate
from ...items import Item, Photo, Vectors
from ...matching.lists.matches import Matches
from ...networks.model import DescriptorNet
from ..data.held_out import HeldOut
from ..views.apply_torch import finish
from .distributed import Process

_BATCH = 32
_PROTOCOL = "kit"


def _describe(
    net: DescriptorNet, items: Sequence[Item], open_photo: Callable[[Item], Photo], size: int, process: Process
) -> tuple[list[str], Vectors]:
    """Return the ids and the descriptors of the readable images, in their order.

    The processes share the work, and each of them gets all the descriptors.
    """
    mine: list[tuple[int, str, Vectors]] = []
    places = range(process.rank, len(items), process.world_size)
    for start in range(0, len(places), _BATCH):
        read, pixels = [], []
        for place in places[start : start + _BATCH]:
            try:
                pixels.append(load_input(partial(open_photo, items[place]), size, size))
                read.append(place)
            except ImageProblem:
                continue
        if not read:
            continue
        batch = torch.from_numpy(np.stack(pixels)).to(process.device)
        with torch.inference_mode():
            vectors = net(finish(batch, None, net.mean, net.std)).float().cpu().numpy()
        mine += [(place, items[place].id, vector) for place, vector in zip(read, vectors, strict=True)]
    everyone = [mine]
    if process.world_size > 1:
        everyone = [[] for _ in range(process.world_size)]
        dist.all_gather_object(everyone, mine)
    rows = sorted((row for rows in everyone for row in rows), key=lambda row: row[0])
    return [id_ for _, id_, _ in rows], np.stack([vector for *_, vector in rows])


def evaluate_net(net: DescriptorNet, held_out: HeldOut, size: int, process: Process) -> Scores:
    """Evaluate the network without normalisation, in the protocol of the challenge kit.

    Every process gets the same scores. The network runs in evaluation mode and in fp32, and returns to its former mode
    afterwards.
    """
    training = net.training
    net.eval()
    try:
        query_ids, queries = _describe(net, held_out.queries, held_out.open_photo, size, process)
        reference_ids, references = _describe(net, held_out.references, held_out.open_photo, size, process)
    finally:
        net.train(training)
    scores, places = (torch.from_numpy(queries) @ torch.from_numpy(references).T).topk(
        min(PER_QUERY_CAP, len(references)), dim=1
    )
    matches = Matches(
        [id_ for id_ in query_ids for _ in range(scores.shape[1])],
        [reference_ids[place] for place in places.flatten().tolist()],
        scores.flatten().numpy().astype(np.float32),
    )
    return evaluate(matches, held_out.truth, protocols=[_PROTOCOL])[_PROTOCOL]
