from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from images import make_zoo

from isc_fast.decoders.opening import ImageProblem
from isc_fast.decoders.rules import load_input
from isc_fast.errors import InputError
from isc_fast.items import Item, Problem
from isc_fast.sources import lists
from isc_fast.sources.finding import nouns_of
from isc_fast.sources.folders import IMAGE_SUFFIXES
from isc_fast.sources.listing import KINDS, list_images

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path) -> Tree:
    """Make empty files (their folders too), and say where; nothing here looks into them."""

    def make(*names: str, root: str = "photos") -> Path:
        folder = tmp_path / root
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return folder

    return make


def ids(*inputs: str | os.PathLike[str], rule: str = "auto") -> list[str]:
    return [item.id for item in list_images(inputs if len(inputs) > 1 else inputs[0], ids=rule).items]


def refusal(*inputs: str | os.PathLike[str], **options: object) -> str:
    with pytest.raises(InputError) as raised:
        list_images(inputs if len(inputs) > 1 else inputs[0], **options)
    return str(raised.value)


# --- ids ---


@pytest.mark.parametrize(
    ("names", "auto", "path", "stem"),
    [
        ("a.jpg b.png", "a b", "a.jpg b.png", "a b"),
        ("x/a.jpg y/a.jpg", "x/a y/a", "x/a.jpg y/a.jpg", None),
        ("a.jpg a.png b.jpg", "a.jpg a.png b", "a.jpg a.png b.jpg", None),
        ("a.JPG a.jpg", "a.JPG a.jpg", "a.JPG a.jpg", None),
        ("a.b.jpg a.jpg", "a.b a", "a.b.jpg a.jpg", "a.b a"),
        ("a.jpg a.jpg.png a.png", "a.jpg a.jpg.png a.png", "a.jpg a.jpg.png a.png", None),
        (".hidden.jpg .x/b.jpg", ".hidden .x/b", ".hidden.jpg .x/b.jpg", ".hidden b"),
        ("x.jpg/a.png x.jpg.d/a.png", "x.jpg.d/a x.jpg/a", "x.jpg.d/a.png x.jpg/a.png", None),
        ("a,b.jpg a'b.jpg", "a'b a,b", "a'b.jpg a,b.jpg", "a'b a,b"),
    ],
)
def test_ids(tree, names, auto, path, stem):
    folder = tree(*names.split())
    assert ids(folder) == auto.split()
    assert ids(folder, rule="path") == path.split()
    if stem is None:
        message = refusal(folder, ids="stem")
        assert message.startswith("two images would have the id 'a': ")
        assert "'auto' or 'path'" in message
    else:
        assert ids(folder, rule="stem") == stem.split()


def test_ids_stay_when_an_unrelated_file_joins(tree):
    folder = tree("a.jpg", "a.png", "d/a.jpg", "d/b.webp", "ä.jpg")
    before = {item.path: item.id for item in list_images(folder).items}
    tree("b.jpg", "d/c.jpg", "a/a.jpg", "A.jpg", "notes.txt", "a.txt")
    after = {item.path: item.id for item in list_images(folder).items}
    assert before.items() < after.items()


def test_a_link_that_joins_changes_no_id(tree):
    folder = tree("photos of mine/a.jpg", "photos of mine/b.jpg")
    before = list_images(folder).items
    (folder / "all").symlink_to("photos of mine")
    assert list_images(folder).items == before


def test_ids_of_several_inputs_begin_with_their_folder(tree, monkeypatch):
    one, two = tree("a.jpg", root="one"), tree("a.jpg", "b.jpg", root="two")
    assert ids(two, one) == ["two/a", "two/b", "one/a"]
    assert ids(two, one / "a.jpg") == ["two/a", "two/b", "a"]
    assert ids([one]) == ["a"]
    monkeypatch.chdir(one)
    assert ids(".", str(two) + "/") == ["one/a", "two/a", "two/b"]
    assert ids("./") == ["a"]


def test_folders_of_one_name_are_refused_if_their_ids_are_equal(tree):
    one, two = tree("a.jpg", root="x/photos"), tree("a.jpg", "b.jpg", root="y/photos")
    message = refusal(one, two)
    assert f"the id 'photos/a.jpg': {one}/a.jpg and {two}/a.jpg" in message
    assert "give their common parent folder" in message
    assert ids(one.parent.parent) == ["x/photos/a", "y/photos/a", "y/photos/b"]
    (one / "a.jpg").rename(one / "c.jpg")
    assert ids(one, two) == ["photos/c", "photos/a", "photos/b"]


def test_an_input_given_twice_is_refused(tree):
    folder = tree("a.jpg")
    twice = f"because {folder}/a.jpg is given twice"
    assert f"{twice}; name it once" in refusal(folder, folder)
    assert f"{twice}, also as {folder}/./a.jpg; name it once" in refusal(folder, f"{folder}/.")


def test_single_images_of_one_name_have_ids_that_differ(tree, monkeypatch):
    """Those whose names are their own keep them, as before."""
    one, two = tree("img.jpg", "other.jpg", root="s/a"), tree("img.jpg", root="s/b/c")
    three = tree("img.jpg", root="s/b/d")
    files = (one / "img.jpg", two / "img.jpg", one / "other.jpg")
    assert ids(*files) == ["a/img", "b/c/img", "other"]
    assert ids(*files, rule="path") == ["a/img.jpg", "b/c/img.jpg", "other.jpg"]
    assert ids(two / "img.jpg", three / "img.jpg") == ["c/img", "d/img"]
    assert [item.path for item in list_images(files).items] == [str(file) for file in files]
    assert "use the id rule 'auto' or 'path', give" in refusal(*files, ids="stem")
    assert f"because {files[0]} is given twice; name it once" in refusal(files[0], files[0])
    monkeypatch.chdir(one)
    assert f"because img.jpg is given twice, also as {files[0]}; name it once" in refusal("img.jpg", files[0])
    assert ids("img.jpg", "../b/c/img.jpg") == ["a/img", "b/c/img"]


# --- folders ---


def test_a_folder_is_searched_by_suffix(tree):
    folder = tree("a.jpg", "b.JPEG", "c.Tif", "jpg", ".jpg", "d.jpg.part", "e.txt", "f.jpg ", "sub/g.webp", "sub/h")
    listing = list_images(folder)
    assert [item.id for item in listing.items] == ["a", "b", "c", "sub/g"]
    assert listing.ignored == 6
    assert listing.ignored_suffixes == {"": 3, ".jpg ": 1, ".part": 1, ".txt": 1}
    assert len(list_images(tree(*(f"x{suffix}" for suffix in IMAGE_SUFFIXES), root="all")).items) == len(IMAGE_SUFFIXES)


def test_the_order_is_that_of_the_bytes(tree):
    folder = tree("b.jpg", "B.jpg", "a/z.jpg", "a.jpg", "a-b.jpg", "10.jpg", "9.jpg", "é.jpg", "z.jpg", "a b.jpg")
    paths = [item.path for item in list_images(folder, ids="path").items]
    names = [os.path.relpath(path, folder) for path in paths]
    assert names == ["10.jpg", "9.jpg", "B.jpg", "a b.jpg", "a-b.jpg", "a.jpg", "a/z.jpg", "b.jpg", "z.jpg", "é.jpg"]
    assert paths == sorted(paths, key=os.fsencode)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_need_not_be_utf8(tree):
    folder = tree(os.fsdecode(b"\xff\xfe.jpg"), os.fsdecode(b"caf\xe9/a.jpg"), "new\nline.jpg", "🦊.jpg")
    items = list_images(folder).items
    assert [os.fsencode(item.id) for item in items] == [b"caf\xe9/a", b"new\nline", "🦊".encode(), b"\xff\xfe"]
    assert all(os.path.isfile(item.path) for item in items)


def test_links_are_followed_and_no_folder_is_listed_twice(tree):
    outside = tree("o.jpg", "deep/p.jpg", root="outside")
    folder = tree("a.jpg", "sub/b.jpg")
    (folder / "file.jpg").symlink_to(outside / "o.jpg")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "self").symlink_to(".")
    (folder / "absolute").symlink_to(folder)
    (folder / "out").symlink_to(outside)
    (folder / "out again").symlink_to(outside / "deep")
    (outside / "back").symlink_to(folder)
    assert ids(folder) == ["a", "file", "out/deep/p", "out/o", "sub/b"]


@pytest.mark.timeout(20)
def test_links_across_do_not_multiply(tree):
    folder = tree(*(f"{i}/a.jpg" for i in range(12)))
    for i in range(12):
        for j in range(12):
            (folder / str(i) / f"to {j}").symlink_to(f"../{j}")
    assert len(ids(folder)) == 12


@pytest.mark.timeout(60)
def test_a_tree_may_be_deeper_than_python_and_than_a_path(tree, monkeypatch):
    folder = tree("top.jpg")
    monkeypatch.chdir(folder)
    names = ["d"] * 1100 + ["e" * 200] * 20  # deeper than Python's 1,000 frames, longer than a path's 4,096 bytes
    made = []
    try:
        for name in names:
            os.mkdir(name)
            os.chdir(name)
            made.append(name)
        Path("bottom.jpg").touch()
        monkeypatch.chdir(folder)
        *items, top = list_images(folder).items
        assert top == Item("top", str(folder / "top.jpg"))
        assert [re.sub("(d/)+|(e+/)+", "/", item.id) for item in items] == ["//"]  # the last that could be reached
        with pytest.raises(ImageProblem, match="File name too long"):
            load_input(items[0].path, 8, 8)
    finally:  # by hand: what clears pytest's folders is recursive, too
        os.chdir(folder)
        for name in made:
            os.chdir(name)
        Path("bottom.jpg").unlink(missing_ok=True)
        for name in reversed(made):
            os.chdir("..")
            os.rmdir(name)


def deny(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these folders refuse to be listed, also to root."""
    real = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) in names:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("rule", ["auto", "path", "stem"])
def test_a_folder_that_cannot_be_listed_is_a_row_of_the_ledger(tree, monkeypatch, rule):
    folder = tree("a.jpg", "secret.jpg", "secret/b.jpg", "x/locked.d/c.jpg", "z.jpg")
    deny(monkeypatch, "secret", "locked.d")
    listing = list_images(folder, ids=rule)
    ending = ".jpg" if rule == "path" else ""
    assert [item.id for item in listing.items] == [
        f"a{ending}",
        f"secret{ending}",
        "secret/",
        "x/locked.d/",
        f"z{ending}",
    ]
    with pytest.raises(ImageProblem) as raised:
        load_input(listing.items[2].path, 8, 8)
    assert raised.value.problem == Problem("read", "a folder that cannot be listed (Permission denied)")


def test_an_input_that_cannot_be_listed_is_refused(tree, monkeypatch):
    folder = tree("a.jpg")
    deny(monkeypatch, "photos")
    assert refusal(folder) == f"cannot list the folder {folder}: Permission denied"
    assert refusal(folder, tree("b.jpg", root="fine")) == f"cannot list the folder {folder}: Permission denied"


@pytest.mark.skipif(not os.geteuid(), reason="root may read everything")
def test_a_locked_folder(tree):
    folder = tree("a.jpg", "locked/b.jpg")
    (folder / "to the locked").symlink_to("locked/inside")
    (folder / "locked").chmod(0)
    assert ids(folder) == ["a", "locked/", "to the locked/"]


def test_a_locked_folder_behind_links_is_listed_once(tree, monkeypatch):
    folder = tree("a.jpg", "secret/b.jpg")
    (folder / "link").symlink_to("secret")
    (folder / "other link").symlink_to("secret")
    deny(monkeypatch, "secret", "link", "other link")
    assert ids(folder) == ["a", "secret/"]


def test_links_that_lead_nowhere(tree):
    folder = tree("a.jpg")
    for name, target in (
        ("2023", "/mnt/gone"),
        ("b.jpg", "gone"),
        ("c.txt", "gone"),
        ("loop", "loop"),
        ("l.jpg", "l.jpg"),
    ):
        (folder / name).symlink_to(target)
    listing = list_images(folder)
    assert [item.id for item in listing.items] == ["2023/", "a", "b", "l", "loop/"]
    assert listing.ignored == 1


def test_the_zoo_is_listed_whole(tmp_path):
    folder = tmp_path / "zoo"
    zoo = make_zoo(folder)
    listing = list_images(folder, ids="path")
    assert [item.id for item in listing.items] == sorted(zoo, key=os.fsencode)
    assert listing.ignored == 2
    assert len({item.id for item in list_images(folder).items}) == len(zoo)


# --- single files and list files ---


def test_a_single_image_need_not_be_one(tree, tmp_path):
    assert list_images(str(tree("a.b.jpg") / "a.b.jpg")).items == [Item("a.b", f"{tmp_path}/photos/a.b.jpg")]
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert ids(tmp_path / "gone.jpg") == ["gone"]


A_B = [("a", "a.jpg"), ("sub/b", "sub/b.png")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\nsub/b.png\n", A_B),
        (b"a.jpg\r\nsub/b.png", A_B),
        (b"a.jpg\rsub/b.png\r", A_B),
        (b"\n  \na.jpg\n\r\n\t\nsub/b.png\n\n", A_B),
        (codecs.BOM_UTF8 + b"a.jpg\nsub/b.png\n", A_B),
        (b"a.jpg\0sub/b.png\0", A_B),
        (b"a\nb.jpg\0c.jpg\0", [("a\nb", "a\nb.jpg"), ("c", "c.jpg")]),
        (b"sub/b.png\na.jpg\n", A_B[::-1]),
        (b"one\ta.jpg\r\ntwo\tsub/b.png\r\n", [("one", "a.jpg"), ("two", "sub/b.png")]),
        (b"one\ta.jpg\nsub/b.png\n", [("one", "a.jpg"), ("sub/b", "sub/b.png")]),
        (b"one\ta.jpg\ntwo\ta.jpg\n", [("one", "a.jpg"), ("two", "a.jpg")]),
        (b"q\xff\tcaf\xe9.jpg\n", [("q\udcff", "caf\udce9.jpg")]),
        ("ünï 🦊.jpg\n".encode(), [("ünï 🦊", "ünï 🦊.jpg")]),
        (b" a.jpg \n", [(" a", " a.jpg ")]),
        (b'a, "b"\'.jpg\n', [('a, "b"\'', 'a, "b"\'.jpg')]),
        (b"no suffix\n../up.gif\n", [("no suffix", "no suffix"), ("../up", "../up.gif")]),
        (b"a.jpg\na.png\nb.jpg", [("a.jpg", "a.jpg"), ("a.png", "a.png"), ("b", "b.jpg")]),
        (b"/abs/a.jpg\n", [("/abs/a", "/abs/a.jpg")]),
        (b"sub/\n", [("sub/", "sub/")]),
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "TSV"])
def test_list_files(tmp_path, content, expected, suffix):
    file = tmp_path / f"list.{suffix}"
    file.write_bytes(content)
    assert [(item.id, item.path) for item in list_images(file).items] == [
        (id_, os.path.join(tmp_path, path)) for id_, path in expected
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\0"])
def test_a_list_file_is_read_in_blocks(tmp_path, monkeypatch, end):
    """Whatever stands where one block ends and the next begins."""
    names = ["ab.jpg", "ünï 🦊.jpg", os.fsdecode(b"\xe9.jpg"), *(f"{'x' * n}.png" for n in range(1, 9)), "c\td.jpg"]
    (tmp_path / "list.txt").write_bytes(os.fsencode(end.join(names) + end + end))
    expected = [Item(name.rpartition(".")[0], f"{tmp_path}/{name}") for name in names[:-1]]
    for size in (*range(1, 12), 1000):
        monkeypatch.setattr(lists, "_BLOCK", size)
        assert list_images(tmp_path / "list.txt").items == [*expected, Item("c", f"{tmp_path}/d.jpg")]


def test_entries_are_counted_with_the_empty_ones(tmp_path):
    for end in (b"\n", b"\r\n", b"\0"):
        (tmp_path / "list.txt").write_bytes(end.join([b"a.jpg", b"", b" ", b"b.jpg", b"\tc.jpg"]))
        assert refusal(tmp_path / "list.txt").startswith("entry 5 of the list file ")


def test_a_list_file_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("sub/a.jpg\n")
    assert list_images("list.txt").items == [Item("sub/a", "sub/a.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found no image in {file} (0 other files); looked for .3fr, .apng, "),
        (b"\n\r\n  \n", "found no image in {file} "),
        ("a.jpg\n".encode("utf-16"), "the list file {file} is UTF-16, as PowerShell writes it; save it as UTF-8"),
        (b"a.jpg\n\tb.jpg\n", "entry 2 of the list file {file} is b'\\tb.jpg'; expected id<TAB>path"),
        (b"a.jpg\nid\t\n", "entry 2 of the list file {file} is b'id\\t'; expected id<TAB>path"),
        (b"a.jpg\na.jpg\n", "two images would have the id 'a.jpg', because {folder}/a.jpg is given twice; name it"),
        (b"x\ta.jpg\nx\tb.jpg\n", "two images would have the id 'x': {folder}/a.jpg and {folder}/b.jpg; "),
        (b"b\ta.jpg\nb.png\n", "two images would have the id 'b': {folder}/a.jpg and {folder}/b.png; "),
    ],
)
def test_list_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    assert refusal(tmp_path / "list.txt").startswith(message.format(file=tmp_path / "list.txt", folder=tmp_path))


# --- options and errors ---


def test_limit(tree):
    folder = tree("a.jpg", "b.jpg", "c.jpg")
    assert [item.id for item in list_images(folder, limit=2).items] == ["a", "b"]
    assert len(list_images(folder, limit=99).items) == 3
    for limit in (0, -1):
        assert refusal(folder, limit=limit) == f"the limit must be at least 1, not {limit}"


def test_a_limit_does_not_change_ids(tree):
    folder = tree("a.jpg", "a.png")
    assert [item.id for item in list_images(folder, limit=1).items] == ["a.jpg"]


def test_what_cannot_be_listed(tree, tmp_path, monkeypatch):
    folder = tree("notes.txt", "b/c.doc", root="empty")
    kinds = nouns_of(KINDS)
    assert kinds[-1] == "an address (s3://, gs://, az://, https://, http://)"
    gone = f"there is no {tmp_path}/gone; expected {', '.join(kinds[:-1])} or {kinds[-1]}"
    assert refusal(tmp_path / "gone") == gone
    assert refusal(folder, tmp_path / "gone") == gone
    assert refusal(folder).startswith(
        f"found no image in {folder} (2 other files: 1 .doc, 1 .txt); looked for .3fr, .apng, "
    )
    assert refusal([]).startswith("found no image in the inputs (0 other files)")
    assert refusal("").startswith("there is no ;")
    wrong = f"{folder}/b/c.doc is neither a list on standard input (-), nor a folder, nor an image, nor a list file ("
    assert refusal(folder / "b" / "c.doc").startswith(wrong)
    assert refusal(folder, ids="name") == "there is no id rule 'name'; choose one of auto, path, stem"
    deny_reading = tmp_path / "list.txt"
    deny_reading.symlink_to("/proc/self/mem")
    if deny_reading.exists():
        assert refusal(deny_reading) == f"cannot read the list file {deny_reading}: Input/output error"


def test_a_way_back_out_of_a_linked_folder_is_the_system_s(tmp_path):
    """``link/..`` is the parent of the folder that the link leads to, not the folder that the link is in."""
    for folder in ("far/away", "near"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "away")
    for folder, content in (("far", b"meant"), ("near", b"another")):
        (tmp_path / folder / "x.png").write_bytes(content)
    (tmp_path / "near" / "list.txt").write_text("one\tlink/../x.png\ntwo\t../near/x.png\n")
    one, two = list_images(tmp_path / "near" / "list.txt").list().items
    assert os.path.samefile(one.path, tmp_path / "far" / "x.png")
    assert Path(one.path).read_bytes() == b"meant"
    assert two.path == str(tmp_path / "near" / "x.png")  # as always, so that plans that were begun go on
