"""The loss of a network that learns to describe photos as another network, its teacher, describes them."""

from __future__ import annotations

import torch

from .losses import LossParts

_ITSELF = -1e4  # takes a view out of a softmax over the others, and stays finite


def teaching_loss(
    vectors: torch.Tensor,
    rows: torch.Tensor,
    *,
    temperature: float,
    similarity: float,
    reported_margin: float = 1.0,
) -> LossParts:
    """Compute how far the descriptors of a gathered batch are from the teacher's.

    The loss is the sum of two terms. The first one is the mean of 1 − cosine of a descriptor and the teacher's descriptor of
    the same view. The second one compares what a view resembles: for each view, a softmax over the cosines with all other views
    of the batch, divided by the temperature, is a distribution, and the term is the mean Kullback-Leibler divergence of the
    network's from the teacher's. It counts mistakes among the nearest views most, which are those that a search returns.
    Source: Fang et al., "SEED: Self-supervised distillation for visual representation", 2021.

    Args:
        vectors: the network's descriptors ``(b, dim)``. They are brought to unit length in fp32 here.
        rows: the teacher's descriptors of the same views, ``float32 (b, dim)`` of unit length.
        temperature, similarity: see `isc_fast.training.stages.Stage`.
        reported_margin: two views that the network has nearer than this, and the teacher has not, count as active in the figures.

    Returns:
        the loss; as ``positive`` its first term and as ``negative`` its second; as ``positive_distance`` the mean distance of a
        descriptor from the teacher's, as ``negative_distance`` that of two views of the batch; and as ``active_negatives`` the
        share of pairs of views that the network confuses and the teacher does not.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        unit, rows = torch.nn.functional.normalize(vectors.float()), rows.float()
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        cosine = (unit * rows).sum(dim=1)
        own, wanted = unit @ unit.T, rows @ rows.T
        main = (1 - cosine).mean()
        found_log, wanted_log = (
            (cosines / temperature).masked_fill(itself, _ITSELF).log_softmax(dim=1) for cosines in (own, wanted)
        )
        divergence = torch.nn.functional.kl_div(found_log, wanted_log, reduction="batchmean", log_target=True)
        ranking = similarity * divergence
        loss = main + ranking
    with torch.no_grad():
        distance, right = ((2 - 2 * cosines).clamp(min=0).sqrt() for cosines in (own, wanted))
        confused = ((distance < reported_margin) & (right >= reported_margin)).float()
        return LossParts(
            loss=loss,
            positive=main.detach(),
            negative=ranking.detach(),
            positive_distance=(2 - 2 * cosine).clamp(min=0).sqrt().mean(),
            negative_distance=distance[~itself].mean(),
            active_negatives=confused[~itself].mean(),
        )
