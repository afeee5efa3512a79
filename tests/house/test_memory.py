"""The most memory that a run takes, and how much more it takes for more images: each run is a process, at two sizes.

The bounds are generous, and the mistakes that they guard against lie far beyond them: for each image, a list of ids takes 90
bytes, items as objects take 300, and vectors take 1,024.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to say what memory was taken"),
]

HERE = Path(__file__).parents[1]
START = """
    import gc, sys
    import numpy as np
    from isc_fast.descriptors.store import Descriptors, open_descriptors
    from isc_fast.descriptors.writing import write_blocks, write_descriptors

    folder, count = sys.argv[1], int(sys.argv[2])

    def rows_in_blocks(count, dim, seed=0):
        rng = np.random.default_rng(seed)
        for start in range(0, count, 8192):
            rows = rng.normal(size=(min(8192, count - start), dim)).astype(np.float32)
            yield rows / np.linalg.norm(rows, axis=1, keepdims=True)

    class Ids:
        '''Ids of 24 letters that take no memory.'''
        def __len__(self):
            return count
        def __getitem__(self, part):
            rows = range(count)[part]
            return self.of(rows) if isinstance(rows, int) else list(map(self.of, rows))
        def __iter__(self):
            return map(self.of, range(count))
        def of(self, row):
            return f"photos/{row % 1000:04d}/{row:012d}"

    def write(path, dim):
        write_blocks(path, rows_in_blocks(count, dim), ids=Ids(), dim=dim, meta={"engine_id": "e"})

    def few(n, dim):
        return Descriptors(next(rows_in_blocks(n, dim, 1)), [f"q{i}" for i in range(n)], {"engine_id": "e"})
"""
END = """
    print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def peak_bytes(tmp_path: Path, code: str, count: int) -> int:
    """The most memory that a process took that ran the code."""
    script = tmp_path / "measured.py"
    script.write_text(textwrap.dedent(START) + textwrap.dedent(code) + textwrap.dedent(END))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(count)],
        capture_output=True, text=True, timeout=300, check=False, env={"PYTHONPATH": str(HERE), "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) * 1024  # the output of the commands comes first


WRITE = """
    write(f"{folder}/references.h5", 4)
"""
SEARCH = """
    from isc_fast.cli.main import main
    from isc_fast.matching.two_sides import search
    write_descriptors(f"{folder}/few.h5", few(20, 4))
    assert main(["search", f"{folder}/few.h5", f"{folder}/references.h5", "-o", f"{folder}/matches.csv"]) == 0
    with open_descriptors(f"{folder}/references.h5") as references:
        assert len(search(few(20, 4), references, k=10)) == 200
        assert len(search(few(20, 4), references, max_pairs=300)) == 300
        assert len(search(few(20, 4), references, threshold=0.9999)) < count
"""
NORMALIZE = """
    from isc_fast.matching.normalizing.methods import normalize_to_file
    with open_descriptors(f"{folder}/references.h5") as references:
        normalize_to_file(references, few(50, 4), f"{folder}/out.h5")
    with open_descriptors(f"{folder}/out.h5") as made:
        assert len(made) == count
"""
REWRITE = """
    from isc_fast.cli.main import main
    references, few_rows, out = (f"{folder}/{name}.h5" for name in ("references", "few", "out"))
    write_descriptors(few_rows, few(20, 4))
    assert main(["merge", references, few_rows, "-o", out]) == 0
    with open(f"{folder}/map.txt", "w") as file:
        file.write("q1\\tz1\\n")
    assert main(["rename", out, "--ids", f"{folder}/map.txt", "-o", out]) == 0
    with open(f"{folder}/ids.txt", "w") as file:
        file.write("z1\\n")
    assert main(["remove", out, "--ids", f"{folder}/ids.txt", "-o", out]) == 0
    with open_descriptors(out) as made:
        assert len(made) == count + 19
"""


@pytest.fixture(scope="module")
def large_files(tmp_path_factory):
    """Files of 100,000 and of a million rows of 4 numbers, both larger than a block; and what writing them took."""
    folders = {count: tmp_path_factory.mktemp(f"rows{count}") for count in (100_000, 1_000_000)}
    return {count: (folder, peak_bytes(folder, WRITE, count)) for count, folder in folders.items()}


def test_search_takes_the_same_memory_for_any_number_of_references(large_files):
    few, many = (peak_bytes(folder, SEARCH, count) for count, (folder, _) in large_files.items())
    assert many - few < 25_000_000  # ids in a list: 135 MB


def test_normalising_takes_the_same_memory_for_any_number_of_descriptors(large_files):
    few, many = (peak_bytes(folder, NORMALIZE, count) for count, (folder, _) in large_files.items())
    assert many - few < 25_000_000


def test_merging_renaming_and_removing_take_eight_bytes_a_row(large_files):
    few, many = (peak_bytes(folder, REWRITE, count) for count, (folder, _) in large_files.items())
    assert many - few < 45_000_000  # numbers of the rows that stay, twice: 14 MB; ids in a list: 135 MB


def test_writing_takes_the_same_memory_for_any_number_of_ids(large_files):
    (_, few), (_, many) = large_files.values()
    assert many - few < 25_000_000  # as objects: 135 MB


# This test does not measure nearest neighbours: they would take minutes among 100,000 rows.
NEGATIVES = """
    import isc_fast.matching.searchers.cpu_searcher
    from isc_fast.cli.main import main

    def knn(self, xq, blocks, k):
        total = sum(map(len, blocks))
        indices = np.random.default_rng(0).integers(0, total, (len(xq), k))
        return np.ones(indices.shape, np.float32), indices

    isc_fast.matching.searchers.cpu_searcher.CpuSearcher.knn = knn
    whole = Descriptors.blocks
    Descriptors.blocks = lambda self, _rows=None: whole(self, 8192)  # so that 40,000 rows are many blocks
    write(f"{folder}/plain.h5", 256)
    write_descriptors(f"{folder}/few.h5", few(1000, 256))
    plain, negatives, out = (f"{folder}/{name}.h5" for name in ("plain", "negatives", "out"))
    assert main(["negatives", plain, "-k", "2", "-o", negatives]) == 0
    assert main(["normalize", f"{folder}/few.h5", "--negatives", negatives, "-k", "2", "-o", out]) == 0
"""


def test_the_commands_do_not_need_negatives_to_fit_into_memory(tmp_path):
    few, many = (peak_bytes(tmp_path, NEGATIVES, count) for count in (40_000, 120_000))
    assert many - few < 40_000_000  # 82 MB more of them, and as much again where they are smoothed in memory


EXTRACT = """
    from fakes import FakeEngine
    import isc_fast.extraction.pipeline
    from isc_fast.decoders.base import Batch

    class Engine(FakeEngine):
        def run(self, pixels):
            return np.ones((len(pixels), 4), np.float32)

    class Decoder:
        name = "none"
        def batches(self, jobs, preprocessing):
            for job in jobs:
                pixels = np.zeros((len(job), preprocessing.height, preprocessing.width, 3), np.uint8)
                pixels[:, 0, 0] = 1 - NOTED  # images of one colour are noted
                yield Batch(pixels, [None] * len(job))

    isc_fast.extraction.runners.here.make_decoder = lambda *_, **__: Decoder()
    engine = Engine(8, 4)
    engine.default_batch_size = 64
    with open(f"{folder}/list.txt", "w") as out:
        out.writelines(f"{id_}.jpg\\n" for id_ in Ids())
    made = isc_fast.extraction.pipeline.extract(f"{folder}/list.txt", engine, f"{folder}/out.h5", overwrite=True, shard_size=2048)
    assert (made.count, made.computed, len(made.notes)) == (count, count, NOTED * count)
    made = isc_fast.extraction.pipeline.extract(f"{folder}/list.txt", engine, f"{folder}/out.h5")
    assert (made.count, made.computed) == (count, 0)
"""


def test_extraction_takes_the_same_memory_for_any_number_of_images(tmp_path):
    """The listing, the plan and the comparison of ids lie on the disk."""
    few, many = (peak_bytes(tmp_path, EXTRACT.replace("NOTED", "0"), count) for count in (50_000, 200_000))
    assert many - few < 10_000_000  # in flat arrays 19 MB, as objects 90 MB


def test_extraction_takes_the_same_memory_for_any_number_of_notes(tmp_path):
    """The ledger lies on the disk. HDF5 keeps up to 32 MB of the strings that it reads."""
    few, many = (peak_bytes(tmp_path, EXTRACT.replace("NOTED", "1"), count) for count in (10_000, 70_000))
    assert many - few < 40_000_000  # as objects 72 MB
