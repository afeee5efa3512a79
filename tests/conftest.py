"""Fixtures and options of the whole test suite. ``--fast`` leaves out what is slow or needs heavy packages."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

# Torch's and faiss' idle threads would spin, and keep the cores from the tests that run beside them. It is read once, when
# the first of their libraries is loaded; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Where the environment forbids to keep compiled modules, as images of containers do, each of the thousand processes that tests
# start would compile two hundred of them: a third of what an extraction of one photo takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

from isc_fast.assets import demo_photos

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "bench" / "common"))  # what benchmarks and tests both need

import slow_tests
from buckets import Bucket, new_bucket, served_by_moto, use
from fakes import FakeEngine

OUT_OF_REACH = (
    "torch",
    "ray",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "openvino",
    "nvidia",
    "tensorrt_rtx",
    "cuda",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what is slow or needs more than .[cpu,parquet,dev]")
    parser.addoption("--note-slow", action="store_true", help="measure which tests are slow; see slow_tests.py")
    parser.addoption("--injuries", type=int, default=25, help="damaged files of each kind (default: 25)")


def cores_of_its_own(number: int, of: int) -> None:
    """Keep this process, and all that it starts, on its share of the cores.

    Tests that run beside each other would otherwise start as many threads as there are cores, each: OpenMP's, torch's and ONNX
    Runtime's wait for each other in a spin, so they cost the others what they do not use.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % of :: of] or cores)  # one that replaces a dead one has a higher number


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(slow_tests)
    if hasattr(config, "workerinput"):  # one of xdist's processes, gw0, gw1, …
        cores_of_its_own(int(config.workerinput["workerid"].removeprefix("gw")), config.workerinput["workercount"])
    # A script's background (`make test &`) ignores SIGINT, and so would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--fast"):
        sys.modules.update(dict.fromkeys(OUT_OF_REACH))  # as if they were not installed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        measuring = config.getoption(
            "--note-slow"
        )  # then only what the marker says is left out, so that the list is made anew
        slow = [item for item in items if (item.get_closest_marker("slow") if measuring else slow_tests.is_slow(item))]
        config.hook.pytest_deselected(items=slow)
        left_out = {id(item) for item in slow}
        items[:] = [item for item in items if id(item) not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests and torch's modules live to the end. Tests that count what is left collect garbage, and would look
    # through all of it each time, for half a second.
    gc.collect()
    gc.freeze()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are of the same bits for the same number of torch's threads only, and other tests leave other numbers behind."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photos() -> Sequence[Path]:
    """Return the real photos that ship with the package."""
    return demo_photos()


@pytest.fixture(scope="session")
def folder_of() -> Callable[[Path, int], Path]:
    """Return a function that makes a folder with links to the first n photos, also where a file has other `photos`."""
    photos = demo_photos()

    def make(folder: Path, count: int) -> Path:
        folder.mkdir(parents=True)
        for photo in photos[:count]:
            (folder / photo.name).symlink_to(photo)
        return folder

    return make


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of a server of S3 that runs as long as the tests."""
    with served_by_moto() as port:
        yield port


@pytest.fixture
def bucket(moto_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """Return an empty bucket, which this process finds by the environment."""
    pytest.importorskip("obstore")
    use(monkeypatch, tmp_path_factory.mktemp("home"), f"http://127.0.0.1:{moto_port}")
    return new_bucket(moto_port)
