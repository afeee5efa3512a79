"""The baselines that a copy detector must beat: features of a network that only learned to classify, and perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...descriptors.store import Descriptors
from ...engines.base import check_pixels
from ...engines.spec import EngineSpec
from ...errors import require
from ...items import Item
from ...matching.lists.matches import Matches
from ...networks.model import DescriptorNet
from ...networks.pretrained import load_imagenet
from ..views.apply_torch import finish
from .photo_split import load_photo

ARCH = "tf_efficientnet_lite0"
HASHES = ("phash", "dhash")
HASH_SIDES = (16, 8)  # 256 and 64 bits


class ImageNetEngine:
    """An engine (see `isc_fast.engines.base.Engine`) for the pooled features of a backbone with its ImageNet weights.

    The features have unit length.

    Args:
        size: the side of the input, in pixels.
        gem_p: the power of generalised-mean pooling. 1.0 is average pooling.

    Raises:
        DownloadError: the weights could not be fetched.
    """

    def __init__(self, size: int, gem_p: float = 1.0) -> None:
        net = DescriptorNet(ARCH, gem_p=gem_p)
        load_imagenet(net)
        self._net = net.eval().to(memory_format=torch.channels_last)
        dim = net.fc.in_features
        self.spec = EngineSpec(f"imagenet-{size}-gem{gem_p:g}", ARCH, height=size, width=size, dim=dim, gem_p=gem_p)
        self.id = self.spec.name
        self.path = Path(self.spec.name)
        self.device = "cpu"
        self.default_batch_size = 16

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_pixels(self.spec, pixels)
        images = finish(torch.from_numpy(pixels), None, self._net.mean, self._net.std, channels_last=True)
        with torch.inference_mode():
            vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(self._net.pooled(images)).numpy()
        return vectors


def describe_by_hash(items: Sequence[Item], name: str, side: int) -> Descriptors:
    """Compute perceptual hashes as rows of ±1, scaled to unit length.

    An exact search by inner product then finds the nearest hashes.

    Args:
        items: the images.
        name: one of `HASHES`, which the library imagehash computes.
        side: the hash has ``side · side`` bits.

    Raises:
        InputError: an image cannot be read.
        MissingExtraError: imagehash is not installed.
    """
    function: Any = getattr(require("imagehash", "dev"), name)
    rows = [function(load_photo(item), hash_size=side).hash.ravel() for item in items]
    vectors = (np.stack(rows).astype(np.float32) * 2 - 1) / np.float32(side)
    return Descriptors(vectors, [item.id for item in items])


def as_hamming(matches: Matches, bits: int) -> Matches:
    """Score matches of hashes by minus the number of bits that differ.

    These scores are whole numbers, so equal distances have exactly equal scores.
    """
    differing = np.rint((1 - matches.scores) * (bits / 2))
    return Matches(matches.query_ids, matches.reference_ids, (-differing).astype(np.float32))
