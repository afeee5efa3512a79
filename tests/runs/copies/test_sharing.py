"""`dedup`, `find` and `leaks` whose comparison workers compute, or the jobs of an array: the bytes of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_search import kill_a_worker, two_sides

import isc_fast
from isc_fast.cli.main import main
from isc_fast.errors import InputError, OutputError
from isc_fast.extraction.share import Share
from isc_fast.files.one_run import one_run
from isc_fast.matching.pairs import search_tasks
from isc_fast.matching.pairs.cross_join import CrossJoin
from isc_fast.matching.pairs.search_tasks import SearchTasks
from isc_fast.matching.pairs.self_join import SelfJoin
from isc_fast.matching.searchers.cpu_searcher import CpuSearcher
from isc_fast.matching.searchers.inputs import BlockRows

VERBS: dict[str, tuple[Callable[..., Any], type]] = {
    "dedup": (
        lambda sides, out, **options: isc_fast.find_duplicates(sides[1], out, threshold=0.8, **options),
        SelfJoin,
    ),
    "find": (
        lambda sides, out, **options: isc_fast.find_copies(*sides, out, threshold=0.8, k=4, **options),
        SearchTasks,
    ),
    "leaks": (
        lambda sides, out, **options: isc_fast.find_leaks(
            sides[1], [sides[0]], out, threshold=0.8, recipe="dinov2", **options
        ),
        CrossJoin,
    ),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(search_tasks, "QUERY_ROWS", 40)
    monkeypatch.setattr(CpuSearcher, "block_rows", lambda *_: BlockRows(40, 200))


def contents(folder: Path) -> dict[str, bytes]:
    """What a run wrote, with the output's own name left out."""
    return {path.name: path.read_bytes().replace(bytes(folder), b"OUT") for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_workers_one_of_which_is_killed(tmp_path, monkeypatch, verb):
    run, join = VERBS[verb]
    sides = two_sides(tmp_path)
    run(sides, tmp_path / "whole")
    flag = kill_a_worker(monkeypatch, tmp_path, join)
    made = run(sides, tmp_path / "out", search_workers=2)
    assert flag.exists(), "one was killed"
    assert made.complete
    assert made.pairs > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out" / "pairs.parts").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_jobs_of_an_array(tmp_path, monkeypatch, verb):
    """Each computes its share once; the last one writes; a job that comes again computes nothing."""
    run, join = VERBS[verb]
    sides = two_sides(tmp_path)
    run(sides, tmp_path / "whole")
    real, computed = join.pairs, []
    monkeypatch.setattr(join, "pairs", lambda self, number: (computed.append(number), real(self, number))[1])
    jobs = [run(sides, tmp_path / "out", search_share=Share(index, 3)) for index in (2, 0)]
    for job in jobs:
        assert not job.complete
        assert job.waits.tasks > job.waits.done > 0
        assert job.to_dict() == {**vars(job.waits), "folder": str(tmp_path / "out"), "complete": False}
    assert contents(tmp_path / "out") == {}
    last = run(sides, tmp_path / "out", search_share=Share(1, 3))
    assert last.complete
    assert len(computed) == len(set(computed)) == max(computed) + 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert run(sides, tmp_path / "out", search_share=Share(2, 3)).complete
    assert len(computed) == max(computed) + 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    with one_run(tmp_path / "out"):
        held = run(sides, tmp_path / "out", search_share=Share(2, 3))
        assert held.waits.tasks == held.waits.done
        assert "another run writes the lists" in str(held.waits)
        with pytest.raises(OutputError, match="another run is writing"):
            run(sides, tmp_path / "out")
    run(sides, tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.parts").exists(), "a run that is alone leaves nothing"


def test_photos_are_described_before_jobs_share_them(tmp_path, folder_of):
    photos, sides = folder_of(tmp_path / "photos", 2), two_sides(tmp_path)
    share = Share(0, 2)
    for verb, call in {
        "dedup": lambda: isc_fast.find_duplicates(photos, tmp_path / "out", search_share=share),
        "find": lambda: isc_fast.find_copies(sides[0], photos, tmp_path / "out", search_share=share),
        "leaks": lambda: isc_fast.find_leaks(photos, [sides[0]], tmp_path / "out", search_share=share),
    }.items():
        with pytest.raises(
            InputError, match=rf"describe them first, .*--num-shards N, and give .* to isc-fast {verb}$"
        ):
            call()
    with pytest.raises(InputError, match=r"normalised before.*leave out --negatives"):
        isc_fast.find_copies(*sides, tmp_path / "out", search_share=share, negatives=sides[0], threshold=0.5)
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path, capsys):
    queries, references = map(str, two_sides(tmp_path))
    out, limits = ["-o", str(tmp_path / "out"), "--threshold", "0.8"], ["--num-shards", "2", "--shard-index"]
    assert main(["find", queries, "--in", references, *out, *limits, "1"]) == 0
    assert "2 of 3 tasks are there; the job that sees the last one writes the lists" in capsys.readouterr().out
    assert main(["find", queries, "--in", references, *out, *limits, "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False
    assert main(["find", queries, "--in", references, *out, *limits, "0"]) == 0
    assert "matches.csv: " in capsys.readouterr().out
    assert main(["leaks", "--train", references, "--eval", queries, *out, "--search-workers", "1:2"]) == 1
    assert "give --search-ray too, or leave it out" in capsys.readouterr().err
    assert main(["dedup", references, *out, "--shard-index", "1"]) == 1
    assert "--shard-index and --num-shards go together" in capsys.readouterr().err
