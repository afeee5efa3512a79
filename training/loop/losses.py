"""The contrastive loss over a cross-batch memory that all processes share.

The code follows the definition of the loss and does not use a metric-learning library: the published learning rates are
tuned to an order of gathering and to a scale of gradients that the current releases of such libraries no longer have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

# fp32 gives the squared distance of two unit rows to about 1e-6: rows that are nearer than this are equal.
_EQUAL_SQUARED = 4e-6


class CrossBatchMemory:
    """A ring buffer of the latest descriptors and their labels. Every process holds the same content.

    Args:
        size: how many descriptors it holds.
        dim: the length of a descriptor.
        device: where the descriptors lie.
    """

    def __init__(self, size: int, dim: int, device: torch.device | str = "cpu") -> None:
        self.vectors = torch.zeros(size, dim, device=device)
        self.labels = torch.zeros(size, dtype=torch.int64, device=device)
        self.cursor = 0
        self.filled = 0

    @property
    def size(self) -> int:
        """How many descriptors fit into the memory."""
        return len(self.labels)

    def put(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Write a batch over the oldest entries.

        Args:
            vectors: descriptors ``(b, dim)``.
            labels: their labels, ``int64 (b,)``.

        Returns:
            the place of each row in the memory, ``int64 (b,)``.

        Raises:
            ValueError: the batch is larger than the memory.
        """
        count = len(labels)
        if count > self.size:
            raise ValueError(f"a batch of {count} does not fit into a memory of {self.size}")
        places = (self.cursor + torch.arange(count, device=self.labels.device)) % self.size
        self.vectors[places] = vectors.detach().float()
        self.labels[places] = labels
        self.cursor = (self.cursor + count) % self.size
        self.filled = min(self.filled + count, self.size)
        return places

    def state_dict(self) -> dict[str, torch.Tensor | int]:
        """Return everything that `load_state_dict` needs to continue exactly from here."""
        return {"vectors": self.vectors, "labels": self.labels, "cursor": self.cursor, "filled": self.filled}

    def load_state_dict(self, state: dict[str, torch.Tensor | int]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            ValueError: the state belongs to a memory of another size.
        """
        vectors, labels = state["vectors"], state["labels"]
        if not isinstance(vectors, torch.Tensor) or vectors.shape != self.vectors.shape:
            raise ValueError(f"the memory holds {tuple(self.vectors.shape)}, and what was saved does not")
        assert isinstance(labels, torch.Tensor)
        self.vectors.copy_(vectors)
        self.labels.copy_(labels)
        self.cursor, self.filled = int(state["cursor"]), int(state["filled"])


@dataclass(frozen=True)
class LossParts:
    """The loss of a batch, and figures that show whether training is healthy.

    Attributes:
        loss: a scalar with a gradient.
        positive, negative: the two terms of the loss, without gradient.
        positive_distance, negative_distance: the mean distances over all positive and over all negative pairs, 0 to 2.
        active_negatives: the share of negative pairs that are nearer than the margin. If the network collapses, the loss
            falls, but this share grows.
    """

    loss: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    positive_distance: torch.Tensor
    negative_distance: torch.Tensor
    active_negatives: torch.Tensor


def _mean(values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values where ``which`` is true, or 0 if it is true nowhere."""
    return (values * which).sum() / which.sum().clamp(min=1)


def _distances(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean distances of unit rows, ``(b, m)``.

    The distance of equal rows is exactly 0, and so is its gradient, which the square root alone would make infinite.
    """
    squared = 2 - 2 * (rows @ others.T)
    equal = squared <= _EQUAL_SQUARED
    return squared.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0)


def contrastive_loss(
    vectors: torch.Tensor, labels: torch.Tensor, memory: CrossBatchMemory, *, pos_margin: float, neg_margin: float
) -> LossParts:
    """Write a gathered batch into the memory, and compute the loss of the batch against the memory.

    A pair is a descriptor of the batch (the anchor) and an entry of the memory. The entry that is the anchor itself does not
    count. D is the Euclidean distance of a pair. The loss is the sum of two means:

    * the mean of ``D − pos_margin`` over the pairs with equal labels for which it is above 0,
    * the mean of ``neg_margin − D`` over the pairs with different labels for which it is above 0.

    An image that stands twice in a batch has two equal descriptors. Their D is 0, so with a ``pos_margin`` of 0 they are no
    part of the first mean. The gradient flows through the anchors only.

    Args:
        vectors: descriptors ``(b, dim)``, from all processes in the order of their ranks. They are brought to unit length in
            fp32 here, because in bf16 their length is off by up to 0.4 %, and equal descriptors would seem 0.1 apart.
        labels: their labels, ``int64 (b,)``.
        memory: the memory that the batch is written into.
        pos_margin, neg_margin: see `isc_fast.training.stages.Stage`.
    """
    # The loss needs fp32: a bf16 cosine is too coarse for margins on distances.
    with torch.autocast(vectors.device.type, enabled=False):
        unit = torch.nn.functional.normalize(vectors.float())
        places = memory.put(unit, labels)
        entries, entry_labels = memory.vectors[: memory.filled], memory.labels[: memory.filled]
        distance = _distances(unit, entries)
    same = labels[:, None] == entry_labels[None, :]
    itself = torch.zeros_like(same)
    itself[torch.arange(len(labels), device=labels.device), places] = True
    positives, negatives = same & ~itself, ~same
    too_far, too_near = distance - pos_margin, neg_margin - distance
    positive = _mean(too_far, positives & (too_far > 0))
    negative = _mean(too_near, negatives & (too_near > 0))
    loss = positive + negative
    with torch.no_grad():
        return LossParts(
            loss=loss,
            positive=positive.detach(),
            negative=negative.detach(),
            positive_distance=_mean(distance, positives),
            negative_distance=_mean(distance, negatives),
            active_negatives=_mean((too_near > 0).float(), negatives),
        )


def gather(vectors: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect the batches of all processes, in the order of their ranks.

    Only this process's own block keeps its gradient.
    """
    if not dist.is_initialized():
        return vectors, labels
    world, rank = dist.get_world_size(), dist.get_rank()
    all_vectors = [torch.empty_like(vectors) for _ in range(world)]
    all_labels = [torch.empty_like(labels) for _ in range(world)]
    dist.all_gather(all_vectors, vectors.detach().contiguous())
    dist.all_gather(all_labels, labels)
    all_vectors[rank] = vectors
    return torch.cat(all_vectors), torch.cat(all_labels)


def gradient_scale(world_size: int, reference_world_size: int) -> float:
    """Return the factor for the loss with which any number of processes makes the step of the published run.

    Each process back-propagates through its own block, and the gradients are averaged. The average is the true gradient
    divided by the number of processes. The published learning rates are tuned to the published number of processes, so the
    factor is ``world_size / reference_world_size``.
    """
    return world_size / reference_world_size
