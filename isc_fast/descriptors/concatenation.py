"""Several sets of descriptors as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import FormatError, InputError, MismatchError
from .formats.base import refuse_repeated
from .store import Descriptors


def concatenate(sets: Sequence[Descriptors]) -> Descriptors:
    """Several sets as one; equal ids are refused.

    Raises:
        FormatError: dimensions differ, or an id occurs twice.
        MismatchError: they come from different engines or normalisations.
        InputError: there is no set at all.
    """
    if not sets:
        raise InputError("there is nothing to put together")
    if len(sets) == 1:
        return sets[0]
    if len({part.dim for part in sets}) > 1:
        raise FormatError(f"sets of different dimensions ({', '.join(str(part.dim) for part in sets)}) cannot be one")
    ids = [id_ for part in sets for id_ in part.ids]
    refuse_repeated(ids, "the sets together")
    stamps = [part.provenance.belonging for part in sets]
    if any(stamp != stamps[0] for stamp in stamps):
        raise MismatchError("these sets were made by different engines or normalised differently; keep them apart")
    failures = [failure for part in sets for failure in part.failures]
    vectors = np.concatenate([np.asarray(part.vectors[:], np.float32) for part in sets])
    return Descriptors(vectors, ids, stamps[0].write(), failures)
