"""A head in closed form that comes as near as it can to a teacher: ridge regression from pooled features to its descriptors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...networks.model import DescriptorNet
from .distributed import sum_over_processes
from .whitening import set_head

_RIDGES = (0.01, 0.1, 1.0, 10.0)  # shares of the mean variance that are added to the covariance of the features
_ASIDE = 5  # every so many batches one is set aside, to choose the ridge on views that the regression has not seen
_SMALLEST = 1e-12  # variance of a projected feature

_Array = npt.NDArray[np.float64]


class HeadFit:
    """Collects what the regression needs of any number of views, in float64: counts, means and products.

    Args:
        channels: the length of the pooled features.
        dim: the length of a descriptor.
    """

    def __init__(self, channels: int, dim: int) -> None:
        # Of the batches that are fitted and of those set aside: the products of (1, features, descriptors) with themselves.
        self._sums = torch.zeros(2, 1 + channels + dim, 1 + channels + dim, dtype=torch.float64)
        self._channels, self._batches = channels, 0

    @property
    def views(self) -> int:
        """How many views have been added."""
        return int(self._sums[:, 0, 0].sum())

    def add(self, features: torch.Tensor, rows: torch.Tensor) -> None:
        """Add a batch: pooled features ``float64 (n, channels)`` and the teacher's descriptors of the same views ``(n, dim)``."""
        both = torch.cat([torch.ones(len(features), 1, dtype=torch.float64), features, rows.double()], dim=1)
        self._batches += 1
        self._sums[int(self._batches % _ASIDE == 0)] += both.T @ both

    def set_head(self, net: DescriptorNet, device: torch.device) -> None:
        """Set the head of a network to the regression over the views of all processes.

        The batch normalisation is set so that the head computes the same at evaluation as in training on a batch like these.

        Args:
            net: the network whose head changes.
            device: what the processes exchange their sums on.
        """
        fitted, aside = sum_over_processes(self._sums.to(device)).cpu().numpy()
        ridge = _RIDGES[-2]
        if aside[0, 0]:
            ridge = min(_RIDGES, key=lambda each: self._error(self._regression(fitted, each), aside))
        projection, centre, target, covariance = self._regression(fitted + aside, ridge)
        variance = np.einsum("cd,ce,ed->d", projection, covariance, projection, optimize=True)
        deviation = np.sqrt(np.maximum(variance, _SMALLEST))
        projection = projection / deviation
        # Descriptors are brought to unit length, so their scale is free. With this one the head's numbers are near 1, and a step
        # of an optimizer that moves every number by its rate changes all of them a little.
        scale = np.sqrt(len(target))
        set_head(
            net, projection, centre @ projection, np.ones(len(target)), gain=scale * deviation, shift=scale * target
        )

    def _regression(self, sums: _Array, ridge: float) -> tuple[_Array, _Array, _Array, _Array]:
        """Return the projection ``(channels, dim)``, the means of features and descriptors, and the features' covariance."""
        means, products, channels = sums[0, 1:] / sums[0, 0], sums[1:, 1:] / sums[0, 0], self._channels
        moments = products - np.outer(means, means)
        covariance = moments[:channels, :channels]
        added = np.eye(channels) * (ridge * np.trace(covariance) / channels)
        projection = np.linalg.solve(covariance + added, moments[:channels, channels:])
        return projection, means[:channels], means[channels:], covariance

    def _error(self, regression: tuple[_Array, _Array, _Array, _Array], sums: _Array) -> float:
        """Return the mean squared error on other views, up to a constant."""
        projection, centre, target, _ = regression
        whole = np.vstack([target - centre @ projection, projection])  # from (1, features)
        inner, cross = (
            sums[: 1 + self._channels, : 1 + self._channels],
            sums[: 1 + self._channels, 1 + self._channels :],
        )
        squares = np.einsum("cd,ce,ed->", whole, inner, whole, optimize=True)
        return float((squares - 2 * (whole * cross).sum()) / sums[0, 0])
