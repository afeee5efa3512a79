"""A search in tasks: the matches of one process, byte for byte, whoever computes the tasks and whatever happens to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from buckets import new_bucket, served_by_moto, use
from helpers_search import REFERENCES, at_once, clustered, in_parts, kill_a_worker, two_sides

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.store import Descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import DamageError, FormatError, InputError, MismatchError, OutputError
from isc_fast.extraction.share import Share
from isc_fast.matching.pairs import search_tasks
from isc_fast.runs.tasks.searching import SearchResult, search_to_folder


@pytest.fixture(params=[1, 2], ids=["one view", "two views"])
def sides(request, tmp_path: Path) -> tuple[Path, Path]:
    return two_sides(tmp_path, request.param)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_tasks, "QUERY_ROWS", 40)


def result_of(made: SearchResult) -> bytes:
    assert made.complete
    return Path(str(made.matches)).read_bytes()


LIMITS = [
    {},
    {"k": 3},
    {"k": 4, "max_pairs": 77},
    {"threshold": 0.8},
    {"threshold": 0.8, "k": 2},
    {"metric": "l2", "k": 5},
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tasks_give_the_bytes_of_one_search(tmp_path, sides, limits, form):
    made = search_to_folder(*sides, tmp_path / "out", shard_size=100, form=form, **limits)
    assert made.tasks == made.done == made.computed > 12
    assert result_of(made) == at_once(sides, form, **limits)
    assert made.pairs == result_of(made).count(b"\n") - (form == "csv")


def test_tasks_end_where_parts_do(sides):
    with open_descriptors(sides[0]) as queries, open_descriptors(sides[1]) as references:
        cut = search_tasks.cut_of(queries, references, [*range(64, REFERENCES, 64), REFERENCES], 100)
        assert [*cut.starts] == [0, 128, 256, 384, 512, 640]
        assert [*search_tasks.cut_of(queries, references, None, 300).starts] == [0, 300, 600]
        assert [*search_tasks.cut_of(queries, references).starts] == [0]


def test_what_is_left_out_is_made_up_for(tmp_path, sides):
    (tmp_path / "stop.csv").write_text("id\nq003\nr0005\n")
    (tmp_path / "v.jsonl").write_text("")
    options = {"k": 3, "stop_list": tmp_path / "stop.csv"}
    made = search_to_folder(*sides, tmp_path / "out", shard_size=100, **options)
    assert result_of(made) == at_once(sides, **options)
    assert b"q003" not in result_of(made)
    again = search_to_folder(*sides, tmp_path / "out", shard_size=100, max_pairs=20, **options)
    assert (again.computed, again.pairs) == (0, 20), "the tasks are the same, the result is another"
    assert result_of(again) == at_once(sides, max_pairs=20, **options)
    third = search_to_folder(*sides, tmp_path / "out", shard_size=100, form="jsonl", **options)
    assert (third.computed, result_of(third)) == (0, at_once(sides, "jsonl", **options))
    assert not (tmp_path / "out" / "matches.csv").exists(), "it was another result"
    Path(str(third.matches)).unlink()
    fourth = search_to_folder(*sides, tmp_path / "out", shard_size=100, form="jsonl", **options)
    assert (fourth.computed, result_of(fourth)) == (0, at_once(sides, "jsonl", **options))


def test_shares_and_a_run_that_was_interrupted(tmp_path, sides, monkeypatch):
    whole, out = at_once(sides, k=3), tmp_path / "out"
    given = {"k": 3, "shard_size": 100}
    one = search_to_folder(*sides, out, share=Share(1, 3), **given)
    assert (one.complete, one.computed, one.done, one.matches) == (False, one.tasks // 3, one.tasks // 3, None)
    steps: list[int] = []

    def interrupt(done: int, *_: int) -> None:
        steps.append(done)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_to_folder(*sides, out, progress=interrupt, **given)
    last = search_to_folder(*sides, out, share=Share(2, 3), **given)
    assert not last.complete
    made = search_to_folder(*sides, out, share=Share(0, 3), **given)
    assert result_of(made) == whole
    assert one.computed + 3 + last.computed + made.computed == made.tasks, "each task was computed once"
    parts = {file: file.stat().st_mtime_ns for file in out.rglob("*.pairs")}
    again = search_to_folder(*sides, out, **given)
    assert (again.computed, again.complete, again.pairs) == (0, True, made.pairs)
    assert parts == {file: file.stat().st_mtime_ns for file in out.rglob("*.pairs")}


@pytest.fixture
def kills(tmp_path, monkeypatch) -> Path:
    return kill_a_worker(monkeypatch, tmp_path, search_tasks.SearchTasks)


def test_two_workers_one_of_which_is_killed(tmp_path, sides, kills):
    """The cut of this process counts for the workers too, and the one that is left does the other's task."""
    steps: list[tuple[int, int, int]] = []
    made = search_to_folder(
        *sides, tmp_path / "out", k=3, shard_size=100, workers=2, progress=lambda *step: steps.append(step)
    )
    assert result_of(made) == at_once(sides, k=3)
    assert kills.exists(), "one was killed"
    log = [line.split() for line in Path(f"{kills}.log").read_text().splitlines()]
    assert len({pid for pid, _ in log}) == 2
    assert len(log) == made.tasks + 1, "the task that it worked on is computed twice"
    assert steps[-1] == (made.tasks, made.tasks, 0)


def test_a_task_that_ends_all_workers_is_one_line(tmp_path, sides, kills):
    Path(f"{kills}.always").touch()
    with pytest.raises(isc_fast.IscFastError) as caught:
        search_to_folder(*sides, tmp_path / "out", k=3, shard_size=100, workers=2)
    assert "was ended by SIGKILL" in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists(), "there is nothing to go on with"


# --- what is refused, each in one line


def refused(kind: type[Exception], *arguments: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        search_to_folder(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_search_and_other_descriptors(tmp_path, sides):
    out = tmp_path / "out"
    search_to_folder(*sides, out, k=3)
    text = refused(MismatchError, *sides, out, k=4)
    assert text.startswith(f"{out} was begun for other descriptors, other limits or another cut; give another folder")
    assert "/plan.json has them" in text
    for name in "ab":
        in_parts(tmp_path / name, clustered(1, 9), [*"abcdefghi"], 3, {"engine_id": name * 64})
    text = refused(MismatchError, tmp_path / "a", tmp_path / "b", tmp_path / "other")
    assert "different engines" in text
    assert not (tmp_path / "other").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("")
    assert "holds 'photo.jpg'" in refused(OutputError, *sides, tmp_path / "mine", k=3)


def test_a_part_that_is_missing_or_damaged(tmp_path, sides):
    part = sorted((sides[1] / ("ab" * 32)).iterdir())[3]
    content = part.read_bytes()
    part.unlink()
    assert "part-000003.h5" in refused(DamageError, *sides, tmp_path / "out", k=3)
    assert not (tmp_path / "out").exists()
    part.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    text = refused(DamageError, *sides, tmp_path / "out", k=3, workers=2, shard_size=100)
    assert "part-000003.h5" in text
    part.write_bytes(content)
    made = search_to_folder(*sides, tmp_path / "out", k=3, shard_size=100)
    assert result_of(made) == at_once(sides, k=3)


def test_a_task_s_file_that_is_damaged(tmp_path, sides):
    out = tmp_path / "out"
    made = search_to_folder(*sides, out, k=3, shard_size=100)
    whole = result_of(made)
    (out / "search.json").unlink()
    file = sorted(out.rglob("*.pairs"))[2]
    content = file.read_bytes()
    for spoilt in (content[:-1], content[:5], bytes([content[0] ^ 1]) + content[1:]):
        file.write_bytes(spoilt)
        text = refused(DamageError, *sides, out, k=3, shard_size=100)
        assert f"{file.name} is damaged (" in text
        assert "remove it, and run the same command again" in text
    file.unlink()
    again = search_to_folder(*sides, out, k=3, shard_size=100)
    assert again.computed == 1
    assert result_of(again) == whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_pairs": 5}, "tasks need -k beside --max-pairs"),
        ({"workers": 0}, "the number of workers must be from 1 to 1024, not 0"),
        ({"workers": 2, "device": "cuda:0,1"}, "workers search on the processor"),
        ({"workers": 2, "cluster": isc_fast.Cluster()}, "a cluster says itself how many workers it has"),
        ({"cluster": isc_fast.Cluster(), "device": "cuda:1"}, "on a cluster the device is cpu or cuda"),
        ({"form": "json"}, "there is no format 'json' of matches"),
        ({"shard_size": 0}, "a task needs at least 1 reference"),
    ],
)
def test_arguments_that_do_not_go_together(tmp_path, options, said):
    assert said in refused(InputError, tmp_path / "q.h5", tmp_path / "r", tmp_path / "out", **options)


def test_an_id_that_no_csv_holds(tmp_path, sides):
    rows = clustered(1, 2)
    write_descriptors(tmp_path / "comma.h5", Descriptors(rows, ["a,b", "c"]))
    write_descriptors(tmp_path / "plain.h5", Descriptors(rows, ["a", "c"]))
    text = refused(FormatError, tmp_path / "comma.h5", tmp_path / "plain.h5", tmp_path / "out")
    assert text.endswith("write JSON lines instead: --format jsonl (in Python form='jsonl')")


# --- the command line


def test_the_command_line(tmp_path, sides, capsys):
    words = ["search", *map(str, sides), "-o", f"{tmp_path / 'out'}/", "-k", "3", "--shard-size", "300"]
    assert main([*words, "--shard-index", "0", "--num-shards", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'out'}: ")
    assert re.search(r"\d of (9|15) tasks are there; the job that sees the last one writes the matches", out)
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"]
    assert found["tasks"] == found["done"] > found["computed"] > 0
    assert Path(found["matches"]).read_bytes() == at_once(sides, k=3)
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'out'}/matches.csv: {found['pairs']} pairs of 90 queries and 700"
    )


@pytest.mark.parametrize(
    "flag", [["--workers", "2"], ["--ray"], ["--slurm"], ["--shard-size", "9"], ["--format", "jsonl"]]
)
def test_flags_that_need_a_folder(tmp_path, sides, capsys, flag):
    assert main(["search", *map(str, sides), "-o", str(tmp_path / "m.csv"), *flag]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{flag[0]} is about work in tasks, whose output is a folder: -o FOLDER/, with a slash" in line


def test_a_killed_command_goes_on(tmp_path, sides, kills):
    """As after the loss of power: SIGKILL to the command and its workers, at some moment after the first task."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "isc_fast", "search", *map(str, sides), "-o", f"{out}/", "-k", "3"]
    command += ["--shard-size", "64", "--workers", "2"]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not [*out.rglob("*.pairs")] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kills.touch()  # and nobody is killed from now on
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "matches.csv").read_bytes() == at_once(sides, k=3)


def test_jobs_at_once(tmp_path, sides):
    """Two that do everything and one with a share, in any order: each task has one file, and nobody fails."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "isc_fast",
        "search",
        *map(str, sides),
        "-o",
        f"{out}/",
        "-k",
        "3",
        "--shard-size",
        "64",
    ]
    jobs = [[], [], ["--shard-index", "1", "--num-shards", "2"]]
    running = [
        subprocess.Popen([*command, *job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for job in jobs
    ]
    for process in running:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert (out / "matches.csv").read_bytes() == at_once(sides, k=3)
    assert not [*out.rglob("*.tmp")]


# --- buckets


def test_parts_and_results_in_a_bucket(tmp_path, sides, monkeypatch):
    with served_by_moto() as port:
        use(monkeypatch, tmp_path, f"http://127.0.0.1:{port}")
        bucket = new_bucket(port)
        bucket.put_folder(sides[1], "refs/")
        given = {"k": 3, "shard_size": 100}
        out = f"{bucket.url}/out/"
        one = search_to_folder(sides[0], f"{bucket.url}/refs/", out, share=Share(0, 2), **given)
        assert not one.complete
        made = search_to_folder(sides[0], f"{bucket.url}/refs/", out, workers=2, **given)
        assert (made.complete, made.done) == (True, made.tasks)
        assert made.matches == f"{bucket.url}/out/matches.csv"
        found = bucket.client.get_object(Bucket=bucket.name, Key="out/matches.csv")["Body"].read()
        assert found == at_once(sides, k=3)
        again = search_to_folder(sides[0], f"{bucket.url}/refs/", out, **given)
        assert (again.computed, again.pairs) == (0, made.pairs)
        local = search_to_folder(*sides, tmp_path / "local", **given)
        tasks = {f.name: f.read_bytes() for f in (tmp_path / "local").rglob("*.pairs")}
        assert local.complete
        listed = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="out/")["Contents"]
        keys = [row["Key"] for row in listed if row["Key"].endswith(".pairs")]
        stored = {
            k.rpartition("/")[2]: bucket.client.get_object(Bucket=bucket.name, Key=k)["Body"].read() for k in keys
        }
        assert stored == tasks, "the same bytes here and there"
