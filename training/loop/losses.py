"""Losses over a cross-batch memory that all processes share: the contrastive loss, as published, and InfoNCE.

The code follows the definition of the loss and does not use a metric-learning library: the published learning rates are
tuned to an order of gathering and to a scale of gradients that the current releases of such libraries no longer have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from ..stages import NO_PHOTO

# fp32 gives the squared distance of two unit rows to about 1e-6: rows that are nearer than this are equal.
_EQUAL_SQUARED = 4e-6
_NEAREST = 1e-3  # a smaller distance counts as this one, so that its logarithm is finite


class CrossBatchMemory:
    """A ring buffer of the latest descriptors and their labels. Every process holds the same content.

    Args:
        size: how many descriptors it holds.
        dim: the length of a descriptor.
        device: where the descriptors lie.
        photos: how many photos a view shows at most. With more than one, a row of labels has a place for each of them.
    """

    def __init__(self, size: int, dim: int, device: torch.device | str = "cpu", photos: int = 1) -> None:
        self.vectors = torch.zeros(size, dim, device=device)
        self.labels = torch.zeros((size, photos) if photos > 1 else size, dtype=torch.int64, device=device)
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
            labels: their labels, ``int64 (b,)`` or ``int64 (b, photos)``.

        Returns:
            the place of each row in the memory, ``int64 (b,)``.

        Raises:
            ValueError: the batch is larger than the memory, or its labels have another number of columns.
        """
        count = len(labels)
        if count > self.size:
            raise ValueError(f"a batch of {count} does not fit into a memory of {self.size}")
        if labels.shape[1:] != self.labels.shape[1:]:
            raise ValueError(
                f"labels {tuple(labels.shape)} do not fit into a memory of labels {tuple(self.labels.shape)}"
            )
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
        positive, negative: the two terms of the loss, without gradient. InfoNCE does not fall into such terms: its loss
            without the spreading term counts as ``positive``, and the spreading term as ``negative``.
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


def _pairs(labels: torch.Tensor, entry_labels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which pairs of the batch ``(b,)`` and the entries ``(m,)`` match and which do not, two ``bool (b, m)``.

    A descriptor and itself are neither. If labels have several columns, a pair matches if one of the two views shows the
    first photo of the other, and it is neither if the two share a photo that is the first of neither.
    """
    if labels.ndim == 1:
        same = labels[:, None] == entry_labels[None, :]
        shared = same
    else:
        equal = (labels[:, None, :, None] == entry_labels[None, :, None, :]) & (labels != NO_PHOTO)[:, None, :, None]
        same = equal[:, :, 0, :].any(-1) | equal[:, :, :, 0].any(-1)
        shared = equal.flatten(2).any(-1)
    itself = torch.zeros_like(same)
    itself[torch.arange(len(labels), device=labels.device), places] = True
    return same & ~itself, ~shared


def _put_and_compare(
    vectors: torch.Tensor, labels: torch.Tensor, memory: CrossBatchMemory
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Write a batch into the memory. Return its distances to the entries, and which pairs match and which do not."""
    unit = torch.nn.functional.normalize(vectors.float())
    places = memory.put(unit, labels)
    distance = _distances(unit, memory.vectors[: memory.filled])
    return distance, *_pairs(labels, memory.labels[: memory.filled], places)


def _spreading(distance: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``−log D`` over the anchors, with D the distance of the nearest entry of another photo.

    It estimates the entropy of the descriptors, up to a constant and its sign. Sources: Sablayrolles et al., "Spreading
    vectors for similarity search", 2019; Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", 2022.
    """
    nearest = distance.masked_fill(~negatives, 2.0).amin(dim=1)
    return -nearest.clamp(min=_NEAREST).log().mean()


def info_nce_loss(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    memory: CrossBatchMemory,
    *,
    temperature: float,
    spread: float = 0.0,
    reported_margin: float = 1.0,
) -> LossParts:
    """Write a gathered batch into the memory, and compute the cross-entropy of its matching pairs against the memory.

    For each pair that matches, with the cosine s, the loss is ``−log(e^(s/t) / (e^(s/t) + Σ e^(n/t)))``, where the n are
    the anchor's cosines with all entries that do not match it, and t is the temperature. It is averaged over an anchor's
    pairs, then over the anchors that have one. Source: van den Oord et al., "Representation learning with contrastive
    predictive coding", 2018. The gradient flows through the anchors only.

    Args:
        vectors, labels, memory: see `contrastive_loss`.
        temperature, spread: see `isc_fast.training.stages.Stage`.
        reported_margin: the distance below which a negative pair counts as active in the figures.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        distance, positives, negatives = _put_and_compare(vectors, labels, memory)
        logits = (1 - distance.square() / 2) / temperature
        others = logits.masked_fill(~negatives, -torch.inf).logsumexp(dim=1, keepdim=True)
        each = torch.nn.functional.softplus(others - logits)
        counts = positives.sum(dim=1)
        by_anchor = (each * positives).sum(dim=1) / counts.clamp(min=1)
        main = by_anchor.sum() / (counts > 0).sum().clamp(min=1)
        apart = spread * _spreading(distance, negatives) if spread else torch.zeros_like(main)
    return _parts(main, apart, distance, positives, negatives, reported_margin)


def _parts(
    positive: torch.Tensor,
    negative: torch.Tensor,
    distance: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    margin: float,
) -> LossParts:
    loss = positive + negative
    with torch.no_grad():
        return LossParts(
            loss=loss,
            positive=positive.detach(),
            negative=negative.detach(),
            positive_distance=_mean(distance, positives),
            negative_distance=_mean(distance, negatives),
            active_negatives=_mean((distance < margin).float(), negatives),
        )


def contrastive_loss(
    vectors: torch.Tensor,
    labels: torch.Tensor,
    memory: CrossBatchMemory,
    *,
    pos_margin: float,
    neg_margin: float,
    spread: float = 0.0,
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
        labels: their labels, ``int64 (b,)``, or ``int64 (b, photos)`` if a view may show several photos: its own first, and
            `isc_fast.training.stages.NO_PHOTO` in the places that are left.
        memory: the memory that the batch is written into.
        pos_margin, neg_margin, spread: see `isc_fast.training.stages.Stage`.
    """
    # The loss needs fp32: a bf16 cosine is too coarse for margins on distances.
    with torch.autocast(vectors.device.type, enabled=False):
        distance, positives, negatives = _put_and_compare(vectors, labels, memory)
        too_far, too_near = distance - pos_margin, neg_margin - distance
        positive = _mean(too_far, positives & (too_far > 0))
        negative = _mean(too_near, negatives & (too_near > 0))
        if spread:
            negative = negative + spread * _spreading(distance, negatives)
    return _parts(positive, negative, distance, positives, negatives, neg_margin)


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
