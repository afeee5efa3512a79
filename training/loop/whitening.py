"""A head in closed form: it whitens pooled features, and learns how from photos and from edited views of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...networks.model import DescriptorNet

_RIDGE = 0.01  # the share of the mean variance that is added to the covariance of the differences
_STD_FLOOR = 1e-12


def set_whitened_head(net: DescriptorNet, photos: npt.NDArray[np.float64], views: npt.NDArray[np.float64]) -> None:
    """Set the head to the learned whitening of these features.

    The head shrinks the directions in which a photo and its views differ. Then it keeps the directions in which photos
    differ most. The batch normalisation is set so that the head computes the same at evaluation as in training on a batch
    like this one. Source: Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear
    projection", 2007.

    Args:
        net: the network whose head changes.
        photos: the pooled features of photos, ``(n, channels)``.
        views: the pooled features of edited views of the same photos, row by row.
    """
    channels, dim = photos.shape[1], net.dim
    differences = views - photos
    within = differences.T @ differences / len(differences)
    within += np.eye(channels) * (_RIDGE * np.trace(within) / channels)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(np.maximum(values, _STD_FLOOR))
    centre = np.concatenate([photos, views]).mean(0)
    spread = (photos - centre) @ whiten
    _, directions = np.linalg.eigh(spread.T @ spread / len(spread))
    projection = whiten @ directions[:, ::-1][:, :dim]
    projected = (np.concatenate([photos, views]) - centre) @ projection
    variance = projected.var(0)
    set_head(net, projection, centre @ projection, variance, gain=np.sqrt(variance + net.bn.eps), shift=np.zeros(dim))


def set_head(
    net: DescriptorNet,
    projection: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    *,
    gain: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
) -> None:
    """Set the head: a projection, and a batch normalisation of what it gives.

    Args:
        net: the network whose head changes.
        projection: ``(channels, dim)``.
        mean, variance: of the projected features, ``(dim,)``.
        gain, shift: what the normalised values are multiplied by, and what is added then, ``(dim,)``.
    """
    state = net.state_dict()
    with torch.no_grad():
        for name, value in {
            "fc.weight": projection.T.copy(),
            "bn.running_mean": mean,
            "bn.running_var": variance,
            "bn.weight": gain,
            "bn.bias": shift,
        }.items():
            state[name].copy_(torch.from_numpy(value))


def pooled_features(net: DescriptorNet, images: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return the input of the head for normalised images, ``float64 (n, channels)``.

    The network should be in evaluation mode.
    """
    with torch.inference_mode():
        features: npt.NDArray[np.float64] = net.pooled(images).double().cpu().numpy()
    return features
