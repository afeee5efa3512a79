"""Every kind of file that can be made, by the numbers that were written. `tests/torture/formats.py` is the long form."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_decoders import outcome

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

import pictures
from pictures import Picture, everything

from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.opening import ImageProblem
from isc_fast.decoders.rules import load_rgb
from isc_fast.items import Problem

SHARE = 0.06
"""Of the 4,000 TIFFs; with it all this takes under ten seconds."""


@pytest.fixture(scope="module")
def made() -> list[Picture]:
    return list(everything(SHARE))


def test_every_kind_gives_the_pixels_that_were_written_or_is_refused(made):
    wrong = []
    for picture in made:
        try:
            got = np.asarray(load_rgb(picture.data)).astype(int)
        except ImageProblem as error:
            if picture.right is not None:
                wrong.append((picture.name, error.problem.reason))
            continue
        if picture.right is None or got.shape != picture.right.shape:
            wrong.append((picture.name, "it was decoded" if picture.right is None else got.shape))
        elif (off := np.abs(got - picture.right).max()) > picture.tolerance:
            wrong.append((picture.name, off))
    assert not wrong
    assert len(made) > 800
    assert len({picture.name for picture in made}) == len(made)


def test_what_has_to_be_refused_says_that_it_has_no_agreed_range(made):
    refused = [picture for picture in made if picture.right is None]
    assert len(refused) >= 15
    for picture in refused:
        with pytest.raises(ImageProblem, match="no agreed range"):
            load_rgb(picture.data)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("decoder", ["turbo", "dali-cpu"])
def test_all_decoders_make_the_same_of_every_kind(decoder, made, tmp_path):
    for module in {"turbo": ("simplejpeg", "cykooz_resizer"), "dali-cpu": ("nvidia.dali",)}[decoder]:
        pytest.importorskip(module)
    fast, contract = make_decoder(decoder, 2), make_decoder("pillow", 2)
    one_of_each = {picture.kind + str(picture.right is None): picture for picture in made}
    others = [picture for picture in made if picture.kind in ("JPEG", "WEBP", "PNG colour key", "BMP 32 alpha")]
    for number, picture in enumerate([*one_of_each.values(), *others]):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(picture.data)
        got, wanted = outcome(fast, path, 30, 40), outcome(contract, path, 30, 40)
        if isinstance(wanted, Problem):
            assert got == wanted, picture.name
            continue
        assert not isinstance(got, Problem), picture.name
        off = np.abs(got.astype(int) - wanted)[1:-1, 1:-1]
        assert off.max() <= (1 if decoder == "turbo" else 8), picture.name


def test_a_wrong_reader_would_be_seen(made, monkeypatch):
    """Each rule is held by some picture: without it, the comparison above fails."""
    from isc_fast.decoders import colours, opening, tiff

    def count() -> int:
        wrong = 0
        for picture in made:
            try:
                got = np.asarray(load_rgb(picture.data)).astype(int)
            except ImageProblem:
                wrong += picture.right is not None
                continue
            same = picture.right is not None and got.shape == picture.right.shape
            wrong += not same or bool(np.abs(got - picture.right).max() > picture.tolerance)
        return wrong

    for module, name, instead in (
        (opening, "open_tiff", lambda *_: None),
        (opening, "stretched", lambda image, _stream: image),
        (opening, "open_deep", lambda *_: None),
        (colours, "_calls_alpha", lambda *_: True),
        (colours, "_CARELESS", ()),
        (colours, "_keyed", lambda *_: None),
        (tiff, "_WHITE_IS_ZERO", -1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, instead)
            assert count() > 0, name
    assert pictures.WIDTH != pictures.HEIGHT
