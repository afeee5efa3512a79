"""Which files of a folder or an archive are taken."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from fakes import FakeEngine, Interrupted
from helpers_containers import write_tar, write_zip
from images import encode, make_zoo, noise
from test_containers import SMALL

from isc_fast import Choice, extract
from isc_fast.cli.main import main
from isc_fast.decoders.opening import ImageProblem
from isc_fast.decoders.rules import load_rgb
from isc_fast.errors import InputError
from isc_fast.sources.choice import DEFAULT_EXCLUDES
from isc_fast.sources.listing import Files, list_images

NAMES = (
    *("a.png", "b.jpg", "sub/c.png", "sub/deep/d.png", "sub/deep/B.JPG", "@eaDir/a.png", "sub/@eaDir/x/y.png"),
    *("._a.png", "sub/._c.png", ".thumbnails/t.png", "#recycle/r.png", "$RECYCLE.BIN/r.png", ".Trash-1000/files/r.png"),
    *(".git/x.png", "eaDir/fine.png", "x@eaDir/fine.png", ".hidden/fine.png", "notes.txt"),
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(SMALL["a.png"])
    return tmp_path / "photos"


def names(where: Path, **options: object) -> list[str]:
    found = [item.id for item in list_images(where, ids="path", choice=Choice(**options)).items]
    return [name.removeprefix("x/") for name in found]


FINE = ["a.png", "b.jpg", ".hidden/fine.png", "eaDir/fine.png", "sub/c.png", "sub/deep/B.JPG", "sub/deep/d.png"]


def test_what_programs_keep_beside_photos_is_left_out_and_counted(folder):
    found = list_images(folder, ids="path")
    assert sorted(item.id for item in found.items) == sorted([*FINE, "x@eaDir/fine.png"])
    expected = {"._*": 2, "@eaDir": 2, "#recycle": 1, "$RECYCLE.BIN": 1, ".Trash*": 1, ".git": 1, ".thumbnails": 1}
    assert found.excluded == expected
    assert next(iter(found.excluded)) == "._*"
    assert found.ignored_suffixes == {".txt": 1}
    assert set(found.excluded) < set(DEFAULT_EXCLUDES)
    assert len(names(folder, default_excludes=False)) == len(NAMES) - 1
    assert names(folder / "@eaDir") == ["a.png"]  # named by the user, it is not left out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": "*.jpg"}, ["b.jpg"]),
        ({"include": ["*.jpg", "*.JPG"]}, ["b.jpg", "sub/deep/B.JPG"]),
        ({"include": ["sub/*"]}, ["sub/c.png", "sub/deep/B.JPG", "sub/deep/d.png"]),
        ({"include": ["sub/?.png"]}, ["sub/c.png"]),
        ({"include": ["[ab].*"], "exclude": ["a*"]}, ["b.jpg"]),
        ({"exclude": ["sub", "*fine*"]}, ["a.png", "b.jpg"]),
        ({"exclude": ["sub/deep", "*fine*"]}, ["a.png", "b.jpg", "sub/c.png"]),
        ({"exclude": ["/sub/*", "*fine*"]}, ["a.png", "b.jpg"]),
    ],
)
@pytest.mark.parametrize("where", ["folder", "tar", "zip"])
def test_patterns(folder, where, options, expected):
    if where != "folder":
        file = folder.parent / f"x.{where}"
        (write_tar if where == "tar" else write_zip)(file, dict.fromkeys(NAMES, b""))
        expected = [name for name in NAMES if name in expected]
        if options.get("exclude") == ["sub/deep", "*fine*"]:
            options = {"exclude": ["sub/deep/*", "*fine*"]}  # an archive has members and no folders
        assert names(file, **options) == expected
    else:
        assert names(folder, **options) == expected


def test_the_names_of_an_archive_are_left_out_too(tmp_path):
    write_tar(tmp_path / "x.tar", dict.fromkeys(NAMES, b""))
    found = list_images(tmp_path / "x.tar", ids="path")
    assert sorted(item.id for item in found.items) == sorted(f"x/{name}" for name in [*FINE, "x@eaDir/fine.png"])
    assert found.excluded["@eaDir"] == 2


def test_a_list_names_what_it_means(tmp_path):
    (tmp_path / "list.txt").write_text("@eaDir/a.png\nb.png\n")
    assert names(tmp_path / "list.txt", exclude=["*"]) == ["@eaDir/a.png", "b.png"]


def test_a_pattern_that_is_empty_is_refused():
    with pytest.raises(InputError, match="a pattern to exclude is empty"):
        Choice(exclude=["a", ""])


def test_nothing_left_says_by_which_pattern(folder):
    with pytest.raises(InputError, match=r"left out by patterns: \d+ by '\*'"):
        list_images(folder, choice=Choice(exclude=["*"]))


def test_a_pattern_that_nothing_fits_is_named(folder):
    with pytest.raises(InputError, match=r"no image in .* fits --include '\*\.Jpg' or 'x/\*' \(\d+ other files"):
        list_images(folder, choice=Choice(include=["*.Jpg", "x/*"]))


# --- by content ---


def test_sniffing_takes_what_is_an_image_whatever_its_name(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    forms = {
        "JPEG": "jpg",
        "PNG": "png",
        "GIF": "gif",
        "TIFF": "tif",
        "BMP": "bmp",
        "WEBP": "webp",
        "JPEG2000": "jp2",
        "AVIF": "avif",
    }
    picture = noise(16, 16)
    for form in forms:
        try:
            (folder / f"{form}0123").write_bytes(encode(picture, form))
        except (KeyError, OSError):
            assert form == "AVIF"
    (folder / "photo.tmp").write_bytes(SMALL["a.png"])
    for name, data in (
        ("text", b"BMW and others, in a text"),
        ("empty", b""),
        ("RIFF.wav", b"RIFF0000WAVE"),
        ("x.mp4", b"\0\0\0\x18ftypmp42"),
    ):
        (folder / name).write_bytes(data)
    (folder / "gone").symlink_to("nowhere.txt")
    with pytest.raises(InputError):
        list_images(folder / "RIFF.wav")
    found = list_images(folder, choice=Choice(sniff=True))
    taken = {item.id for item in found.items} - {"gone/"}
    assert taken >= {f"{form}0123" for form in forms if form != "AVIF"} | {"photo"}
    assert not taken & {"text", "empty", "RIFF", "x"}
    for item in found.items:
        if item.id != "gone/":
            load_rgb(item.path)


@pytest.mark.timeout(60)
def test_what_sniffing_finds_in_the_zoo_can_be_decoded_or_says_why(tmp_path):
    zoo = tmp_path / "zoo"
    for number, name in enumerate(make_zoo(zoo)):
        if (zoo / name).is_file() and not (zoo / name).is_symlink():
            (zoo / name).rename(zoo / f"{number:04d}")
    found = list_images(zoo, choice=Choice(sniff=True))
    sniffed = [item for item in found.items if item.path.rpartition("/")[2].isdigit()]
    assert len(sniffed) > 50
    for item in sniffed:
        with contextlib.suppress(ImageProblem):
            load_rgb(item.path)


# --- in an extraction ---


def test_the_choice_belongs_to_the_plan(folder, tmp_path):
    made = extract(folder, FakeEngine(), tmp_path / "out.h5", choice=Choice(exclude=("sub",)))
    assert (made.count, made.excluded["sub"]) == (5, 1)
    assert extract(folder, FakeEngine(), tmp_path / "out.h5", choice=Choice(exclude=("sub",))).computed == 0
    whole = extract(folder, FakeEngine(), tmp_path / "out.h5")
    assert (whole.note, whole.count) == ("3 new, 0 changed, 0 gone, 5 as they were", 8)


def test_an_extraction_that_version_0_2_began_is_continued(folder, tmp_path, monkeypatch):
    """Its list holds what the default patterns leave out by now, and its inputs say no choice."""
    assert Files("x").inputs == Files("x", choice=Choice()).inputs == [str(Path("x").absolute()), "ids=auto"]
    monkeypatch.setattr("isc_fast.sources.choice.DEFAULT_EXCLUDES", ())
    options = {"batch_size": 2, "shard_size": 2}
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), tmp_path / "out.h5", **options)
    monkeypatch.undo()
    made = extract(folder, FakeEngine(), tmp_path / "out.h5", **options)
    assert (made.note, made.count) == ("0 new, 0 changed, 9 gone, 8 as they were", 8)


def test_the_command_line_says_what_was_left_out(folder, tmp_path, capsys):
    write_tar(folder / "x.tar", SMALL)
    command = ["extract", str(folder), "--engine", "demo", "--exclude", "sub", "--exclude", "*fine*", "--json"]
    assert main([*command, "-o", str(tmp_path / "out.h5")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["excluded"]["sub"] == 1
    assert "note: files and folders left out by patterns: 3 by '*fine*', 1 by '#recycle'," in err
    assert "note: 1 of them are archives or tables beside images; to describe their photos, name them" in err
    assert main([*command, "--no-default-excludes", "--include", "a*", "-o", str(tmp_path / "all.h5")]) == 0
    assert json.loads(capsys.readouterr().out)["descriptors"] == 2
