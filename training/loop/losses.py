"""Contrastive loss over a cross-batch memory that all processes share.

Written from its definition, not on top of a metric-learning library: the published learning rates belong to a gather order
and a gradient scale that today's releases no longer have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

_NEAREST = 1e-12  # squared distance below which two descriptors are one: the root's gradient would be infinite


class CrossBatchMemory:
    """A ring of the latest descriptors and their labels; the same on every process.

    Args:
        size: descriptors that it holds.
        dim: of a descriptor.
    """

    def __init__(self, size: int, dim: int, device: torch.device | str = "cpu") -> None:
        self.vectors = torch.zeros(size, dim, device=device)
        self.labels = torch.zeros(size, dtype=torch.int64, device=device)
        self.cursor = 0
        self.filled = 0

    @property
    def size(self) -> int:
        """Descriptors that fit."""
        return len(self.labels)

    def put(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Write a batch ``(b, dim)`` over the oldest entries; returns where each row went, ``int64 (b,)``.

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
        """Everything that `load_state_dict` needs to go on as if nothing had happened."""
        return {"vectors": self.vectors, "labels": self.labels, "cursor": self.cursor, "filled": self.filled}

    def load_state_dict(self, state: dict[str, torch.Tensor | int]) -> None:
        """Take over a state of the same size.

        Raises:
            ValueError: it is of another size.
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
    """A loss and what tells whether training is healthy.

    Attributes:
        loss: scalar, to be back-propagated.
        positive, negative: its two halves, without gradient.
        positive_distance, negative_distance: mean distances over all pairs, 0 to 2.
        active_negatives: share of the negative pairs that are nearer than the margin. Collapse lowers the loss; it
            shows here.
    """

    loss: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    positive_distance: torch.Tensor
    negative_distance: torch.Tensor
    active_negatives: torch.Tensor


def _mean(values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Mean of those values; 0 where there are none."""
    return (values * which).sum() / which.sum().clamp(min=1)


def contrastive_loss(
    vectors: torch.Tensor, labels: torch.Tensor, memory: CrossBatchMemory, *, pos_margin: float, neg_margin: float
) -> LossParts:
    """The loss of a gathered batch against the memory, after the batch is written into it.

    With D the Euclidean distance between a descriptor of the batch (the anchor) and an entry of the memory, the loss is the
    mean of ``D − pos_margin`` over the pairs of equal label where that is above 0, plus the mean of ``neg_margin − D`` over
    the pairs of different labels where that is above 0. The entry that is the anchor itself is no pair. Gradients go through
    the anchors only.

    Args:
        vectors: ``(b, dim)`` of unit length, of all processes in the order of their ranks.
        labels: ``int64 (b,)``.
    """
    places = memory.put(vectors, labels)
    entries, entry_labels = memory.vectors[: memory.filled], memory.labels[: memory.filled]
    # fp32 throughout: a bf16 cosine is too coarse for margins on distances.
    with torch.autocast(vectors.device.type, enabled=False):
        cosine = vectors.float() @ entries.T
        distance = (2 - 2 * cosine).clamp(min=_NEAREST).sqrt()
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
    """The batches of all processes in the order of their ranks; only the own slice keeps its gradient."""
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
    """What a loss is multiplied by so that any number of processes takes the step of the published run.

    Each process back-propagates through its own slice and the gradients are averaged, so the average is the true gradient
    divided by the number of processes. The published runs had exactly that, with their own number, in their learning rates.
    """
    return world_size / reference_world_size
