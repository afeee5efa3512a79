"""`dedup`, `find` and `leaks` whose output is in a bucket: the bytes that a folder on this machine gets, each created once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buckets import use
from fakes import FakeEngine
from helpers_search import two_sides
from spoiling_proxy import at_random, proxy_to

import isc_fast
from isc_fast.cli.main import main
from isc_fast.errors import InputError, MismatchError, OutputError, StoreError
from isc_fast.extraction.share import Share
from isc_fast.files import own_bucket
from isc_fast.files.one_run import one_run
from isc_fast.matching.pairs import search_tasks
from isc_fast.matching.pairs.cross_join import CrossJoin
from isc_fast.matching.pairs.search_tasks import SearchTasks
from isc_fast.matching.pairs.self_join import SelfJoin
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.inputs import BlockRows
from isc_fast.stores import store as store_module
from isc_fast.stores.store import Store

Run = Callable[..., Any]

PHOTOS: dict[str, Run] = {
    "dedup": lambda one, other, out, **more: isc_fast.find_duplicates(other, out, nemo=True, **more),
    "find": lambda one, other, out, **more: isc_fast.find_copies(one, other, out, **more),
    "leaks": lambda one, other, out, **more: isc_fast.find_leaks(other, [one], out, **more),
}
"""Of two sides of photos, or of descriptors."""
JOINS: dict[str, type] = {"dedup": SelfJoin, "find": SearchTasks, "leaks": CrossJoin}
VERBS = tuple(PHOTOS)


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """No pauses between tries, a temporary folder of the test's own, and small blocks."""
    monkeypatch.setattr(store_module, "_PAUSE_S", 0.001)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(search_tasks, "QUERY_ROWS", 40)
    monkeypatch.setattr(CpuSearcher, "block_rows", lambda *_: BlockRows(40, 200))


@pytest.fixture
def photos(tmp_path, folder_of) -> tuple[Path, Path]:
    """Six photos; and eight among which are the six, two of them twice."""
    one, other = folder_of(tmp_path / "one", 6), folder_of(tmp_path / "other", 8)
    for number, photo in enumerate(sorted(other.iterdir())[:2]):
        (other / f"again-{number}.jpg").symlink_to(photo.resolve())
        (other / f"copy-{number}.jpg").write_bytes(photo.read_bytes())
    return one, other


def names(bucket, prefix: str = "out/") -> list[str]:
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", [])
    return [one["Key"].removeprefix(prefix) for one in found]


def objects(bucket, prefix: str = "out/") -> dict[str, bytes]:
    return {
        name: bucket.client.get_object(Bucket=bucket.name, Key=prefix + name)["Body"].read()
        for name in names(bucket, prefix)
    }


def lists_of_folder(folder: Path) -> dict[str, bytes]:
    """What a run wrote here, without descriptors, the folder's name left out."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".h5" and "pairs.parts" not in path.parts
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes().replace(bytes(folder), b"OUT") for path in files}


def lists_of_bucket(bucket) -> dict[str, bytes]:
    """The same of a prefix."""
    address = f"{bucket.url}/out".encode()
    beside = ("photos/", "queries/", "references/", "train/", "eval-one/", "pairs.parts/", own_bucket.BEGUN)
    found = {name: content for name, content in objects(bucket).items() if not name.startswith(beside)}
    return {name: content.replace(address, b"OUT") for name, content in found.items()}


def left_here(tmp_path: Path) -> list[str]:
    """Folders of runs that go on."""
    return [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("isc-fast-run-")]


# --- the same as a folder


@pytest.mark.parametrize("verb", VERBS)
def test_a_bucket_gets_what_a_folder_gets(tmp_path, photos, bucket, verb):
    describing = isc_fast.Describing(engine=FakeEngine())
    PHOTOS[verb](*photos, tmp_path / "out", describing=describing, threshold=0.99)
    made = PHOTOS[verb](*photos, f"{bucket.url}/out/", describing=describing, threshold=0.99)
    wanted = lists_of_folder(tmp_path / "out")
    assert lists_of_bucket(bucket) == wanted
    assert {f"{verb}.json", "matches.html" if verb == "find" else f"{verb}.html"} <= wanted.keys()
    assert made.page == f"{bucket.url}/out/" + ("matches.html" if verb == "find" else f"{verb}.html")
    page = bucket.client.head_object(Bucket=bucket.name, Key=made.page.removeprefix(f"{bucket.url}/"))
    assert page["ContentType"] == "text/html; charset=utf-8", "so that a browser shows it"
    assert left_here(tmp_path) == []
    before = objects(bucket)
    for name in (
        ("photos",) if verb == "dedup" else ("queries", "references") if verb == "find" else ("train", "eval-one")
    ):
        assert isc_fast.read_descriptors(f"{bucket.url}/out/{name}/").ids
    engine = FakeEngine()
    PHOTOS[verb](*photos, f"{bucket.url}/out", describing=isc_fast.Describing(engine=engine), threshold=0.99)
    assert engine.calls == []
    assert objects(bucket) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_network_that_spoils_a_quarter_of_all_requests(tmp_path, photos, bucket, monkeypatch, verb):
    describing = isc_fast.Describing(engine=FakeEngine())
    PHOTOS[verb](*photos, tmp_path / "out", describing=describing, threshold=0.99)
    with proxy_to(bucket.port, at_random(0.25, seed=len(verb))) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        PHOTOS[verb](*photos, f"{bucket.url}/out/", describing=describing, threshold=0.99)
        assert proxy.seen.total() > proxy.seen[""]
    assert lists_of_bucket(bucket) == lists_of_folder(tmp_path / "out")


# --- interrupted, shared


@pytest.mark.parametrize("verb", VERBS)
def test_an_interrupted_run_goes_on_with_what_it_compared(tmp_path, bucket, monkeypatch, verb):
    """It is interrupted before its first list is created; and once more before its record is."""
    sides = two_sides(tmp_path)
    options: dict[str, Any] = {"threshold": 0.8, "search_workers": 1} if verb == "find" else {"threshold": 0.8}
    PHOTOS[verb](*sides, tmp_path / "out", **options)
    real, begun = Store.create, list[str]()

    def create(self: Store, key: str, content: bytes) -> bool:
        begun.append(key)
        if key.endswith(("s.csv", ".jsonl", ".parquet")) or (len(begun) > 5 and key.endswith(f"{verb}.json")):
            raise KeyboardInterrupt
        return real(self, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", create)
        with pytest.raises(KeyboardInterrupt):
            PHOTOS[verb](*sides, f"{bucket.url}/out/", **options)
    assert set(objects(bucket)) == {own_bucket.BEGUN}
    (left,) = left_here(tmp_path)
    pieces = sorted((tmp_path / "tmp" / left).rglob("*.pairs"))
    assert pieces
    written = {path: path.stat().st_mtime_ns for path in pieces}
    again = {}

    def noted(self: Store, key: str, content: bytes) -> bool:
        if key.endswith(f"{verb}.json"):
            again.update({path: path.stat().st_mtime_ns for path in pieces})
            raise KeyboardInterrupt
        return real(self, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", noted)
        with pytest.raises(KeyboardInterrupt):
            PHOTOS[verb](*sides, f"{bucket.url}/out/", **options)
    assert len(objects(bucket)) > 1
    PHOTOS[verb](*sides, f"{bucket.url}/out/", **options)
    assert lists_of_bucket(bucket) == lists_of_folder(tmp_path / "out")
    assert again == written or verb != "dedup", "no piece was computed again"
    assert left_here(tmp_path) == []


def test_a_killed_command_goes_on(tmp_path, photos, bucket, monkeypatch):
    """It is killed when its first photos are described, and again when it ends."""
    out = ["-o", f"{bucket.url}/out/", "--threshold", "0.9", "--batch-size", "2"]
    words = ["dedup", str(photos[1]), *out]
    assert main(["dedup", str(photos[1]), "-o", str(tmp_path / "out"), *out[2:]]) == 0
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for until in ("photos/begun-new.json", "photos/manifest.json"):
        process = subprocess.Popen([sys.executable, "-m", "isc_fast", *words], stderr=subprocess.PIPE)
        limit = time.monotonic() + 60
        while until not in names(bucket) and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert "dedup.json" not in objects(bucket)
    assert main(words) == 0
    assert lists_of_bucket(bucket) == lists_of_folder(tmp_path / "out")
    assert left_here(tmp_path) == []


@pytest.mark.parametrize("verb", VERBS)
def test_jobs_of_an_array(tmp_path, bucket, monkeypatch, verb):
    """The pieces lie in the bucket, so that jobs need nothing else that all of them see."""
    queries, references = two_sides(tmp_path)
    bucket.put_folder(references, "references/")
    sides = queries, f"{bucket.url}/references/"
    PHOTOS[verb](*sides, tmp_path / "out", threshold=0.8)
    join = JOINS[verb]
    real, computed = join.pairs, list[int]()
    monkeypatch.setattr(join, "pairs", lambda self, number: (computed.append(number), real(self, number))[1])
    for index in (2, 0):
        job = PHOTOS[verb](*sides, f"{bucket.url}/out/", threshold=0.8, search_share=Share(index, 3))
        assert not job.complete
        assert job.to_dict()["folder"] == f"{bucket.url}/out"
    assert lists_of_bucket(bucket) == {}
    last = PHOTOS[verb](*sides, f"{bucket.url}/out/", threshold=0.8, search_share=Share(1, 3))
    assert last.complete
    assert lists_of_bucket(bucket) == lists_of_folder(tmp_path / "out")
    assert len(computed) == len(set(computed)) == max(computed) + 1
    before = objects(bucket)
    late = PHOTOS[verb](*sides, f"{bucket.url}/out/", threshold=0.8, search_share=Share(0, 3))
    assert late.complete
    assert (objects(bucket), len(computed)) == (before, max(computed) + 1)
    with pytest.raises(MismatchError, match=r"was begun for other arguments \(threshold\)"):
        PHOTOS[verb](*sides, f"{bucket.url}/out/", threshold=0.7, search_share=Share(0, 3))


# --- what is refused


def test_what_is_no_output_is_one_line(tmp_path, photos, bucket, capsys):
    bucket.put({"mine/pairs.csv": b"mine", "object": b"x"})
    one, other = map(str, photos)
    lines: dict[str, list[str]] = {
        "dedup": ["dedup", other],
        "find": ["find", one, "--in", other],
        "leaks": ["leaks", "--train", other, "--eval", one],
    }
    for verb, line in lines.items():
        for name, words in (
            (f"{bucket.url}/mine/", f"holds 'pairs.csv', and isc-fast {verb} writes only to a prefix of its own"),
            (f"{bucket.url}/object", "is an object, and isc-fast"),
            ("s3://no-such-bucket/out/", "there is no bucket s3://no-such-bucket"),
            ("s3://", "s3:// names no bucket; expected s3://NAME/KEY"),
            ("https://host/out/", "of all outputs, a bucket takes"),
        ):
            assert main([*line, "--threshold", "0.9", "-o", name]) == 1
            said = capsys.readouterr().err.strip().splitlines()
            assert len(said) == 1, said
            assert words in said[0]
    assert main([*lines["find"], "--view", "-o", f"{bucket.url}/out/"]) == 1
    assert "--view opens a page on this machine" in capsys.readouterr().err
    for missing in (["dedup", str(tmp_path / "none.h5")], ["dedup", other, "--stop-list", str(tmp_path / "none.csv")]):
        assert main([*missing, "--threshold", "0.9", "-o", f"{bucket.url}/out/"]) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert objects(bucket, "") == {"mine/pairs.csv": b"mine", "object": b"x"}, "no litter"
    assert left_here(tmp_path) == []


def test_a_result_is_not_replaced_by_another_one(tmp_path, photos, bucket):
    describing, out = isc_fast.Describing(engine=FakeEngine()), f"{bucket.url}/out/"
    PHOTOS["find"](*photos, out, describing=describing, threshold=0.9)
    before, engine = objects(bucket), FakeEngine()
    with pytest.raises(MismatchError, match=r"was begun for other arguments \(k, threshold\), .*: give another output"):
        PHOTOS["find"](*photos, out, describing=isc_fast.Describing(engine=engine), threshold=0.8, k=3)
    with pytest.raises(MismatchError, match="was begun for something else"):
        PHOTOS["dedup"](*photos, out, describing=describing, threshold=0.9)
    assert engine.calls == []
    with pytest.raises(MismatchError, match="made by another engine"):
        PHOTOS["find"](*photos, out, describing=isc_fast.Describing(engine=FakeEngine(seed=1)), threshold=0.9)
    (photos[0] / "new.jpg").write_bytes(next(photos[1].glob("copy-*")).read_bytes())
    with pytest.raises(MismatchError, match="nothing in a bucket is replaced: give another output"):
        PHOTOS["find"](*photos, out, describing=describing, threshold=0.9)
    assert objects(bucket) == before
    assert left_here(tmp_path) == []


def test_descriptors_that_have_changed_do_not_replace_a_result(tmp_path, bucket):
    sides = two_sides(tmp_path)
    PHOTOS["find"](*sides, f"{bucket.url}/out/", threshold=0.8)
    before = objects(bucket)
    (tmp_path / "q.h5").unlink()
    isc_fast.remove_descriptors(sides[1], ["r0001"], tmp_path / "q.h5")
    with pytest.raises(
        OutputError, match="is there already, and is damaged or of another run; nothing in a bucket is replaced"
    ):
        PHOTOS["find"](*sides, f"{bucket.url}/out/", threshold=0.8)
    assert objects(bucket) == before


def test_credentials_that_may_not_write_are_one_line_before_any_work(tmp_path, photos, bucket, monkeypatch):
    def forbid(method: str, _path: str) -> str | None:
        return "403" if method in ("PUT", "POST") else None

    with proxy_to(bucket.port, forbid) as proxy:
        use(monkeypatch, tmp_path, proxy.url)
        engine = FakeEngine()
        with pytest.raises(StoreError, match=r"does not let these credentials create s3://"):
            PHOTOS["dedup"](*photos, f"{bucket.url}/out/", describing=isc_fast.Describing(engine=engine), threshold=0.9)
        assert engine.calls == []
    assert left_here(tmp_path) == []


def test_a_list_that_is_too_large_stays_here(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(own_bucket, "MOST_BYTES", 100)
    with pytest.raises(
        OutputError, match=r"has \d+ bytes, limit 100 .*; all is finished, and lies in (\S+) on this"
    ) as caught:
        PHOTOS["find"](*two_sides(tmp_path), f"{bucket.url}/out/", threshold=0.8)
    (left,) = left_here(tmp_path)
    assert f"{tmp_path}/tmp/{left} on this machine" in str(caught.value)
    assert (tmp_path / "tmp" / left / "matches.csv").is_file()
    assert set(objects(bucket)) == {own_bucket.BEGUN}


def test_one_run_at_a_time_on_this_machine(tmp_path, bucket, monkeypatch):
    sides = two_sides(tmp_path)
    real = own_bucket.one_run

    def held(folder: Path, output: str) -> Any:
        stack.enter_context(one_run(folder))
        return real(folder, output)

    import contextlib

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(own_bucket, "one_run", held)
        with pytest.raises(OutputError, match=f"another run is writing to {bucket.url}/out; "):
            PHOTOS["find"](*sides, f"{bucket.url}/out/", threshold=0.8)


def test_a_folder_that_somebody_else_prepared_is_refused(tmp_path, bucket):
    sides = two_sides(tmp_path)
    folder = own_bucket._work_folder(f"{bucket.url}/out", {"a": 1})
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is not a folder that this user alone writes to"):
        own_bucket._work_folder(f"{bucket.url}/out", {"a": 1})
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OutputError, match="is not a folder that this user alone writes to"):
        own_bucket._work_folder(f"{bucket.url}/out", {"a": 1})
    assert sides[0].is_file()


def test_negatives_and_a_cluster(tmp_path, bucket):
    sides = two_sides(tmp_path)
    cluster = isc_fast.Cluster("127.0.0.1:1")
    with pytest.raises(InputError, match="where other nodes do not see them; normalise before"):
        PHOTOS["find"](*sides, f"{bucket.url}/out/", threshold=0.8, negatives=sides[0], search_cluster=cluster)


def test_the_command_line(tmp_path, photos, bucket, capsys):
    one, other = map(str, photos)
    assert main(["find", one, "--in", other, "--threshold", "0.9", "-o", f"{bucket.url}/out/"]) == 0
    shown = capsys.readouterr().out
    assert f"{bucket.url}/out/matches.csv: " in shown
    assert f"Look at {bucket.url}/out/matches.html" in shown
    assert main(["info", f"{bucket.url}/out/"]) == 0
    assert "find run" in capsys.readouterr().out
    assert (
        main(["leaks", "--train", other, "--eval", one, "--threshold", "0.9", "-o", f"{bucket.url}/l/", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["files"]["pairs"] == f"{bucket.url}/l/pairs.csv"
