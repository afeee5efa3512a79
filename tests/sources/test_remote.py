"""Photos in buckets and at web addresses: the same descriptors as from a folder, and what bad ones get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from buckets import KEY_ID, SECRET, use
from helpers_containers import WRITERS
from spoiling_proxy import at_random, proxy_to

from isc_fast import extract, find_copies, find_duplicates, find_leaks
from isc_fast.cli.main import main
from isc_fast.descriptors.store import load_descriptors
from isc_fast.errors import InputError, StoreError
from isc_fast.runs.sides.describing import Describing
from isc_fast.sources.listing import list_images
from isc_fast.sources.stamps import UNKNOWN, stamps_of
from isc_fast.stores import store as store_module


@pytest.fixture
def folder(tmp_path, photos) -> Path:
    """Photos in a folder, one of them below, beside a file that is none."""
    made = tmp_path / "photos"
    (made / "sub").mkdir(parents=True)
    for number, photo in enumerate(photos[:10]):
        name = f"sub/{photo.name}" if number == 3 else photo.name
        (made / name).write_bytes(photo.read_bytes())
    (made / "damaged.jpg").write_bytes(photos[0].read_bytes()[:999])
    (made / "note.doc").write_bytes(b"no photo")
    return made


@pytest.fixture
def soon(monkeypatch):
    """Few tries, and no pauses between them."""
    monkeypatch.setattr(store_module, "_PAUSE_S", 0.001)


def same_rows(made: Path, other: Path) -> None:
    one, two = load_descriptors(made), load_descriptors(other)
    assert list(one.ids) == list(two.ids)
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert [(row.id, row.reason) for row in one.failures] == [(row.id, row.reason) for row in two.failures]


# --- the same as from this machine ---


@pytest.mark.parametrize("end", ["/", ""])
def test_a_prefix_gives_what_the_folder_gives(tmp_path, engine, bucket, folder, end):
    bucket.put_folder(folder, "some/photos/")
    bucket.put({"some/photos-other/a.jpg": b"not below", "some/photos/": b""})
    here = extract(folder, engine, tmp_path / "here.h5")
    there = extract(f"{bucket.url}/some/photos{end}", engine, tmp_path / "there.h5")
    same_rows(there.path, here.path)
    assert there.ignored_suffixes == here.ignored_suffixes == {".doc": 1}
    assert there.failures[0].path.startswith(f"{bucket.url}/some/photos/damaged.jpg#")
    one = extract([f"{bucket.url}/some/photos", str(folder / "sub")], engine, tmp_path / "both.h5")
    assert {row.partition("/")[0] for row in load_descriptors(one.path).ids} == {"photos", "sub"}


def test_patterns_and_sniffing_hold_for_keys(bucket, photos):
    jpeg = photos[0].read_bytes()
    bucket.put({"a.jpg": jpeg, "sub/b.jpg": jpeg, "@eaDir/a.jpg": jpeg, "plain": jpeg, "text": b"text", "empty": b""})
    from isc_fast import Choice

    assert [item.id for item in list_images(bucket.url).items] == ["a", "sub/b"]
    found = list_images(bucket.url, choice=Choice(exclude=("sub",), sniff=True))
    assert [item.id for item in found.items] == ["a", "plain"]
    assert found.excluded == {"sub": 1, "@eaDir": 1}


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_a_container_gives_what_it_gives_here(tmp_path, engine, bucket, photos, suffix):
    if suffix in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    file = tmp_path / f"x.{suffix}"
    WRITERS[suffix](file, {photo.name: photo.read_bytes() for photo in photos[:7]})
    bucket.put({f"deep/x.{suffix}": file.read_bytes()})
    extract(file, engine, tmp_path / "here.h5")
    same_rows(extract(f"{bucket.url}/deep/x.{suffix}", engine, tmp_path / "there.h5").path, tmp_path / "here.h5")
    same_rows(extract(f"{bucket.url}/deep/", engine, tmp_path / "below.h5").path, tmp_path / "here.h5")
    (tmp_path / "list.txt").write_text(f"{bucket.url}/deep/x.{suffix}\n")
    listed = extract(tmp_path / "list.txt", engine, tmp_path / "listed.h5")
    assert listed.count == 7


def test_reading_a_container_asks_for_blocks_and_not_for_each_photo(bucket, monkeypatch, tmp_path, photos, engine):
    WRITERS["tar"](tmp_path / "x.tar", {photo.name: photo.read_bytes() for photo in photos[:20]})
    bucket.put({"x.tar": (tmp_path / "x.tar").read_bytes()})
    with proxy_to(bucket.port, lambda _method, _path: None) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        assert extract(f"{bucket.url}/x.tar", engine, tmp_path / "x.h5").count == 20
        assert sum(proxy.seen.values()) <= 4


def test_a_changed_container_is_named_and_nothing_of_it_is_mixed(tmp_path, bucket, photos, engine):
    for name, some in (("x.tar", photos[:3]), ("y.tar", photos[3:6])):
        WRITERS["tar"](tmp_path / name, {photo.name: photo.read_bytes() for photo in some})
    bucket.put({"t/x.tar": (tmp_path / "x.tar").read_bytes(), "t/y.tar": (tmp_path / "y.tar").read_bytes()})
    listing = list_images(f"{bucket.url}/t/")
    bucket.put({"t/x.tar": (tmp_path / "y.tar").read_bytes()})
    made = extract(listing, engine, tmp_path / "out.h5")
    assert made.count == 3
    assert {row.reason for row in made.failures} == {
        f"{bucket.url}/t/x.tar has changed since it was listed: extract again"
    }


def test_lists_name_addresses_and_lie_at_them(tmp_path, bucket, photos, engine):
    for photo in photos[:4]:
        bucket.put({f"p/{photo.name}": photo.read_bytes()})
    names = [photo.name for photo in photos[:4]]
    local = tmp_path / "list.txt"
    local.write_text(f"{bucket.url}/p/{names[0]}\nb\t{bucket.url}/p/{names[1]}\nfile://{photos[2]}\n")
    table = "id,path\n" + "".join(f"{number},../p/{name}\n" for number, name in enumerate(names))
    bucket.put({"lists/all.txt": "\n".join(f"../p/{name}" for name in names).encode(), "lists/all.csv": table.encode()})
    assert extract(local, engine, tmp_path / "a.h5").count == 3
    assert extract(f"{bucket.url}/lists/all.txt", engine, tmp_path / "b.h5").count == 4
    assert list(load_descriptors(extract(f"{bucket.url}/lists/all.csv", engine, tmp_path / "c.h5").path).ids) == list(
        "0123"
    )


def test_finished_outputs_are_brought_up_to_date(tmp_path, bucket, folder, engine, photos):
    bucket.put_folder(folder, "p/")
    prefix, output = f"{bucket.url}/p/", tmp_path / "out.h5"
    first = extract(prefix, engine, output)
    assert extract(prefix, engine, output).computed == 0
    bucket.put({f"p/{photos[1].name}": photos[20].read_bytes(), "p/new.jpg": photos[21].read_bytes()})
    bucket.delete(f"p/{photos[2].name}")
    again = extract(prefix, engine, output)
    assert again.note == "1 new, 1 changed, 1 gone, 9 as they were"
    assert (again.computed, again.count) == (2, first.count)
    fresh = extract(prefix, engine, tmp_path / "fresh.h5")
    same_rows(again.path, fresh.path)


def test_an_output_is_brought_up_to_date_where_every_object_was_replaced(tmp_path, bucket, engine, photos):
    bucket.put({"a.jpg": photos[0].read_bytes()})
    first = load_descriptors(extract(bucket.url, engine, tmp_path / "out.h5").path).vectors.copy()
    bucket.put({"a.jpg": photos[1].read_bytes()})
    again = extract(bucket.url, engine, tmp_path / "out.h5")
    assert again.note == "0 new, 1 changed, 0 gone, 0 as they were"
    assert not np.array_equal(load_descriptors(again.path).vectors, first)


def test_checksums_decide_there_too(tmp_path, bucket, engine, photos):
    bucket.put({f"{number}.jpg": photo.read_bytes() for number, photo in enumerate(photos[:3])})
    extract(bucket.url, engine, tmp_path / "out.h5", checksum=True)
    assert extract(bucket.url, engine, tmp_path / "out.h5", checksum=True).computed == 0
    bucket.put({"1.jpg": photos[5].read_bytes()})
    assert extract(bucket.url, engine, tmp_path / "out.h5", checksum=True).computed == 1


def test_photos_of_a_list_are_looked_at_for_their_stamps(bucket, photos):
    bucket.put({"a.jpg": photos[0].read_bytes()})
    (size, tag), gone = stamps_of([f"{bucket.url}/a.jpg#", f"{bucket.url}/none.jpg#"])
    assert size == photos[0].stat().st_size
    assert tag > 0
    assert tuple(gone) == UNKNOWN


def test_dedup_find_and_leaks_read_photos_and_thumbnails_there(tmp_path, bucket, folder):
    bucket.put_folder(folder, "p/")
    name = sorted(file.name for file in folder.glob("*.jpg"))[0]
    bucket.put({"p/copy.jpg": (folder / name).read_bytes(), "q/asked.jpg": (folder / name).read_bytes()})
    describing = Describing()
    found = find_duplicates(
        f"{bucket.url}/p/", tmp_path / "d", describing=describing, exact=True, keep="oldest", threshold=0.9
    )
    assert (found.removed, found.equal) == (1, {"file": 1, "pixels": 0})
    assert found.removed_bytes == (folder / name).stat().st_size
    assert found.page.read_text("utf-8").count("<img") >= 2
    copies = find_copies(f"{bucket.url}/q/", f"{bucket.url}/p/", tmp_path / "f", describing=describing, threshold=0.9)
    assert copies.pairs == 2
    assert "<img" in copies.page.read_text("utf-8")
    leaked = find_leaks(f"{bucket.url}/p/", [f"{bucket.url}/q/"], tmp_path / "l", describing=describing, threshold=0.9)
    assert [(one.name, one.leaked) for one in leaked.sets] == [("q", 1)]
    with pytest.raises(InputError, match="is given twice"):
        find_duplicates([f"{bucket.url}/p/", f"{bucket.url}/p"], tmp_path / "e", describing=describing)
    with pytest.raises(InputError, match="hold the same photos"):
        find_leaks(f"{bucket.url}/p", [f"{bucket.url}/p/sub/"], tmp_path / "m", describing=describing)


# --- what goes wrong ---


def test_a_quarter_of_spoilt_requests_gives_the_same_bytes(tmp_path, bucket, monkeypatch, folder, engine, photos, soon):
    WRITERS["tar"](folder / "x.tar", {photo.name: photo.read_bytes() for photo in photos[10:20]})
    bucket.put_folder(folder, "p/")
    inputs = [str(folder), str(folder / "x.tar")]
    extract(inputs, engine, tmp_path / "here.h5")
    with proxy_to(bucket.port, at_random(0.25, seed=2)) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        there = [f"{bucket.url}/p", f"{bucket.url}/p/x.tar"]
        made = extract([*there], engine, tmp_path / "there.h5")
        assert sum(count for kind, count in proxy.seen.items() if kind) >= 3
    one, two = load_descriptors(made.path), load_descriptors(tmp_path / "here.h5")
    assert [row.partition("/")[2] for row in one.ids] == [row.partition("/")[2] for row in two.ids]
    np.testing.assert_array_equal(one.vectors, two.vectors)


def test_a_store_that_goes_away_ends_the_run_and_the_same_call_goes_on(
    tmp_path, bucket, monkeypatch, photos, engine, soon
):
    bucket.put({f"p/{photo.name}": photo.read_bytes() for photo in photos[:24]})
    prefix, output = f"{bucket.url}/p/", tmp_path / "out.h5"
    options = {"batch_size": 4, "shard_size": 4, "workers": 1}
    extract(prefix, engine, tmp_path / "whole.h5", **options)
    monkeypatch.setattr(store_module, "TRIES", 2)
    with proxy_to(bucket.port, lambda _method, path: "503" if path.endswith(f"/{photos[14].name}") else None) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        with pytest.raises(StoreError, match=r"cannot reach s3://.* it answers 503; .*run the same command again"):
            extract(prefix, engine, output, **options)
        assert not output.exists()
        kept = sorted((tmp_path / "out.h5.parts").glob("part-*"))
        assert kept
        proxy.spoil = lambda _method, _path: None
        made = extract(prefix, engine, output, **options)
    assert made.computed == 24 - 4 * len(kept)
    assert output.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_an_object_that_goes_after_it_was_listed_or_is_cut_is_a_row(
    tmp_path, bucket, monkeypatch, photos, engine, soon
):
    bucket.put({f"{number}.jpg": photo.read_bytes() for number, photo in enumerate(photos[:4])})
    listing = list_images(bucket.url)
    bucket.delete("1.jpg")
    with proxy_to(bucket.port, lambda _method, path: "cut body" if path.endswith("2.jpg") else None) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        made = extract(listing, engine, tmp_path / "out.h5")
    assert [(row.id, row.stage, row.reason) for row in made.failures] == [
        ("1", "read", "there is no such object"),
        ("2", "read", "its content was cut short at each try"),
    ]
    assert made.count == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}/none/", "there is no object under s3://.*/none/; to see what there is: aws s3 ls"),
        ("{}/none.jpg", "cannot read s3://.*/none.jpg: there is no such object"),
        ("{}/none.tar", "cannot read s3://.*/none.tar: there is no such object"),
        ("{}/none.txt", "cannot read s3://.*/none.txt: there is no such object"),
        ("{}/plain", "is an object, and its name is not an image's"),
        ("s4://b/x/", "there is no scheme s4://"),
        ("{}/x.h5", "is neither|there is no object"),
    ],
)
def test_bad_inputs_are_one_line(tmp_path, bucket, engine, name, message):
    bucket.put({"plain": b"x"})
    with pytest.raises(InputError, match=message) as raised:
        extract(name.format(bucket.url), engine, tmp_path / "out.h5")
    assert "\n" not in str(raised.value)
    assert str(Path.cwd()) not in str(raised.value)


@pytest.mark.parametrize(
    "command",
    [
        "extract {} --engine demo -o s3://bucket/out.h5",
        "report none.csv --queries {} --references {} -o s3://bucket/page.html",
    ],
)
def test_outputs_in_buckets_are_refused_and_no_folder_is_called_so(tmp_path, folder, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    Path("none.csv").write_text("query_id,reference_id,score\n")
    assert main(command.format(folder, folder).split()) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write s3://bucket/")
    assert "parts" in said
    assert not Path("s3:").exists()


def test_no_secret_is_written_or_said(tmp_path, bucket, folder, monkeypatch, capsys, soon):
    bucket.put_folder(folder, "p/")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_module, "TRIES", 2)
    assert main(["extract", f"{bucket.url}/p/", "--engine", "demo", "-o", "a.h5", "--shard-size", "4", "--json"]) == 0
    assert main(["dedup", f"{bucket.url}/p/", "-o", "d", "--threshold", "0.9"]) == 0
    assert main(["extract", f"{bucket.url}/none/", "--engine", "demo", "-o", "b.h5"]) == 1
    with proxy_to(bucket.port, lambda _method, path: "503" if "damaged" in path else None) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        assert main(["extract", f"{bucket.url}/p/", "--engine", "demo", "-o", "c.h5", "--shard-size", "4"]) == 1
    told = capsys.readouterr()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"a.h5", "plan.sqlite", "dedup.json"} <= {file.name for file in files}
    for content in (told.out.encode(), told.err.encode(), *(file.read_bytes() for file in files)):
        assert SECRET.encode() not in content
        assert KEY_ID.encode() not in content


# --- the web ---


@pytest.fixture
def web(photos) -> Iterator[str]:
    """The address of a web server with a photo, a way to it, a page, and one photo that it cuts."""
    jpeg = photos[0].read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/moved.jpg":
                self.send_response(302)
                self.send_header("Location", "/a%20b.jpg")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            kind, content = {
                "/a%20b.jpg": ("image/jpeg", jpeg),
                "/photo": ("image/jpeg", jpeg),
                "/page.jpg": ("text/html; charset=utf-8", b"<html>"),
                "/page": ("text/html", b"<html>"),
                "/data": ("application/json", b"{}"),
            }.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_single_photos_on_the_web(tmp_path, engine, web, photos):
    pytest.importorskip("obstore")
    expected = load_descriptors(extract(photos[0], engine, tmp_path / "here.h5").path).vectors
    for number, (name, id_) in enumerate({"a%20b.jpg": "a b", "moved.jpg": "moved", "photo": "photo"}.items()):
        made = load_descriptors(extract(f"{web}/{name}", engine, tmp_path / f"{number}.h5").path)
        np.testing.assert_array_equal(made.vectors, expected)
        assert list(made.ids) == [id_]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.jpg", "is a web page .text/html.*; give the address of the photo itself"),
        ("page", "is a web page"),
        ("data", "is application/json; expected a photo"),
        ("none.jpg", "the server answers 404"),
        ("a.jpg?key=1", "has a query"),
    ],
)
def test_what_is_no_photo_on_the_web_is_said(tmp_path, engine, web, name, message):
    pytest.importorskip("obstore")
    with pytest.raises(InputError, match=message):
        extract(f"{web}/{name}", engine, tmp_path / "out.h5")


def test_pages_among_a_list_are_rows(tmp_path, engine, web):
    pytest.importorskip("obstore")
    (tmp_path / "list.txt").write_text(f"{web}/a%20b.jpg\n{web}/page.jpg\n{web}/none.jpg\n")
    made = extract(tmp_path / "list.txt", engine, tmp_path / "out.h5")
    assert made.count == 1
    assert [row.reason for row in made.failures] == [
        "the address gives a web page (text/html; charset=utf-8), not a photo",
        "the server answers 404",
    ]
