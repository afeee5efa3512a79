"""Where a copy lies in its original: local features of both, and the homography that most of their pairs agree on.

A descriptor says that two photos are alike; an alignment shows what they share. "No alignment" is an answer too: the pair may be
wrong, or the copy may have too little detail left. The features are SIFT's (Lowe 2004), the homography is found by MAGSAC
(Barath et al. 2019), both of OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import InputError, require

LONGEST_SIDE = 640
"""Photos are shrunk to this before features are looked for."""
MOST_FEATURES = 1500
FEWEST_INLIERS = 8
"""So many pairs of features must agree at least. Of 17,255 pairs of unrelated photos, 12 had 6, and none had more."""
_FEWEST_POINTS = 6  # below this, a homography says nothing
_RATIO = 0.8  # of the distances to the nearest feature and to the second nearest (Lowe 2004)
_PIXELS = 3.0  # by which a pair may miss the homography
_SMALLEST_SPREAD = 0.004  # share of the photo's area that the agreeing features span at least
_SCALES = 0.04, 25.0  # by which a copy may be smaller or larger than its original

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Features:
    """Local features of one photo.

    Attributes:
        points: places in pixels of the shrunk photo ``float32 (n, 2)``.
        vectors: what the photo looks like there ``float32 (n, 128)``.
        size: width and height of the shrunk photo.
        mirrored: whether they are those of the mirrored photo.
    """

    points: Floats
    vectors: Floats
    size: tuple[int, int]
    mirrored: bool = False


@dataclass(frozen=True)
class Alignment:
    """How a query lies in a reference.

    Attributes:
        homography: from the query to the reference, both in shares of width and height ``float64 (3, 3)``. A mirrored query was
            mirrored left to right first.
        inliers: how many pairs of features agree.
        mirrored: whether it is the mirrored query that fits.
        query_points, reference_points: where they agree, in shares of width and height ``(inliers, 2)``; those of a mirrored
            query are in the query as it is.
    """

    homography: Floats
    inliers: int
    mirrored: bool
    query_points: Floats
    reference_points: Floats

    def outline(self) -> Floats:
        """The corners of the query in the reference, in shares of width and height ``(4, 2)``; they may lie outside of it."""
        return _mapped(self.homography, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64))


def find_features(image: Image.Image, *, mirrored: bool = False) -> Features:
    """Find the local features of an RGB image.

    Args:
        image: of any size.
        mirrored: look at its mirror image.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = _library()
    grey = ImageOps.grayscale(image)
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    if mirrored:
        grey = ImageOps.mirror(grey)
    points, vectors = cv2.SIFT_create(nfeatures=MOST_FEATURES, contrastThreshold=0.02).detectAndCompute(
        np.asarray(grey), None
    )
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    if vectors is None:
        vectors = np.empty((0, 128), np.float32)
    # Square roots of shares compare better than the numbers themselves (Arandjelović and Zisserman 2012).
    shares = np.sqrt(vectors / np.maximum(vectors.sum(axis=1, keepdims=True), 1e-7))
    return Features(places, shares.astype(np.float32), grey.size, mirrored)


def check_inliers(fewest: int) -> None:
    """See that so many features may be asked to agree.

    Raises:
        InputError: they are fewer than 6.
    """
    if fewest < _FEWEST_POINTS:
        raise InputError(f"at least {_FEWEST_POINTS} features must agree, not {fewest}")


def align(query: Features, reference: Features, fewest: int = FEWEST_INLIERS) -> Alignment | None:
    """Find how a query lies in a reference; None if nothing is found that many features agree on.

    Args:
        query, reference: of the two photos.
        fewest: so many pairs of features must agree, at least 6.

    Raises:
        InputError: it is below 6.
    """
    check_inliers(fewest)
    if min(len(query.points), len(reference.points)) < fewest:
        return None
    rows, columns = _pairs(query.vectors, reference.vectors)
    if len(rows) < fewest:
        return None
    cv2 = _library()
    there, here = query.points[rows], reference.points[columns]
    found, mask = cv2.findHomography(there, here, cv2.USAC_MAGSAC, _PIXELS, maxIters=5000, confidence=0.999)
    if found is None or not np.isfinite(found).all():
        return None
    agree = mask.ravel().astype(bool)
    there, here = _distinct(there[agree], here[agree])
    if len(there) < fewest or not _is_plausible(found, there, here, query.size, reference.size):
        return None
    from_shares, to_shares = np.diag([*query.size, 1.0]), np.diag([1 / reference.size[0], 1 / reference.size[1], 1.0])
    homography = to_shares @ found @ from_shares
    places = there / np.array(query.size)
    if query.mirrored:
        places = np.stack([1 - places[:, 0], places[:, 1]], axis=1)
    return Alignment(homography / homography[2, 2], len(there), query.mirrored, places, here / np.array(reference.size))


def align_either(
    queries: tuple[Features, Features], reference: Features, fewest: int = FEWEST_INLIERS
) -> Alignment | None:
    """The better alignment of a photo and of its mirror image; see `align`."""
    found = [one for one in (align(query, reference, fewest) for query in queries) if one is not None]
    return max(found, key=lambda one: one.inliers, default=None)


def _pairs(left: Floats, right: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features that are each other's nearest, where the second nearest is clearly farther: their rows on both sides."""
    likeness = left @ right.T  # of unit vectors: a distance is √(2 − 2 likeness)
    best = likeness.argmax(axis=1)
    rows = np.flatnonzero(likeness.argmax(axis=0)[best] == np.arange(len(best)))
    first = likeness[rows, best[rows]]
    others = likeness[rows]
    others[np.arange(len(rows)), best[rows]] = -1.0
    second = others.max(axis=1)
    clear = (2 - 2 * first) <= _RATIO**2 * np.maximum(2 - 2 * second, 1e-12)
    return rows[clear], best[rows][clear]


def _distinct(there: Floats, here: Floats) -> tuple[Floats, Floats]:
    """Without pairs at the same place, which say the same thing several times."""
    _, first = np.unique(np.round(np.concatenate([there, here], axis=1) / 2), axis=0, return_index=True)
    first.sort()
    return there[first], here[first]


def _is_plausible(found: Floats, there: Floats, here: Floats, size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a homography may be what somebody did to a photo: it turns nothing over, and neither side is a speck."""
    spans = [_area(points) / (width * height) for points, (width, height) in ((there, size), (here, other))]
    if min(spans) < _SMALLEST_SPREAD:
        return False
    depth = np.c_[there, np.ones(len(there))] @ found[2]
    if not ((depth > 0).all() or (depth < 0).all()):
        return False
    scale = np.sqrt(np.abs(_jacobians(found, there)))
    upright = (_jacobians(found, there) > 0).all()
    return bool(upright and _SCALES[0] < scale.min() and scale.max() < _SCALES[1] and scale.max() < 8 * scale.min())


def _jacobians(found: Floats, points: Floats) -> Floats:
    """How much larger areas become at some places; below 0 where they are turned over."""
    depth = np.c_[points, np.ones(len(points))] @ found[2]
    made: Floats = np.linalg.det(found) / depth**3
    return made


def _area(points: Floats) -> float:
    cv2 = _library()
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))


def _mapped(homography: Floats, points: Floats) -> Floats:
    made = np.c_[points, np.ones(len(points))] @ homography.T
    found: Floats = made[:, :2] / made[:, 2:]
    return found


def _library() -> ModuleType:
    return require("cv2", "evidence")
