"""Several processes in one extraction: real ones, on the processor, with the demo's engine.

What a test wants of the processes is code in the environment that they run first, from a ``sitecustomize`` on their path:
to be slow, to write down what they do, to die of a photo.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_gpu import FakeCuda
from processes import lives, stands_still, until

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.store import load_descriptors
from isc_fast.engines.base import load_engine
from isc_fast.errors import EngineError, InputError, OutputError
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract, extract_with
from isc_fast.extraction.runners.choose import choose_runner
from isc_fast.extraction.runners.here import Here
from isc_fast.extraction.runners.launch import environment
from isc_fast.extraction.runners.processes import Processes as ProcessRunner

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux to look at processes")

# `note` appends a line to a file, with the process' number. Nothing of this runs in the process that starts the others.
START = """
import json, os, sys
STARTED = {"isc_fast.extraction.runners.worker", "isc_fast.decoders.isolated_child"}
if STARTED & {*sys.orig_argv} and "ISC_FAST_TEST" in os.environ:
    import signal, threading, time
    from isc_fast.decoders.threads import ThreadedDecoder
    from isc_fast.decoders.turbo import TurboDecoder
    from isc_fast.engines.ort import OrtEngine
    from isc_fast.errors import EngineError

    def note(**what):
        with open(os.environ["ISC_FAST_TEST_LOG"], "a") as log:
            log.write(json.dumps({"pid": os.getpid(), **what}) + "\\n")

    def before(kind, name, action):
        real = getattr(kind, name)
        def changed(self, *arguments, **options):
            action(self, *arguments, **options)
            return real(self, *arguments, **options)
        setattr(kind, name, changed)

    exec(os.environ["ISC_FAST_TEST"])
"""
NOTED = "before(OrtEngine, 'run', lambda engine, pixels: note(run=len(pixels)))\n"
SLOW = NOTED + "before(OrtEngine, 'run', lambda *_: time.sleep(0.3))\n"
SIZES = {"batch_size": 2, "shard_size": 4}


class Processes:
    """What the processes are to do, and what they noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._log = monkeypatch, folder / "log.jsonl"
        (folder / "sitecustomize.py").write_text(START)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))  # for a process that starts others itself
        monkeypatch.setenv("ISC_FAST_TEST_LOG", str(self._log))

    def do(self, code: str) -> None:
        """Let processes that start from now on run this first, and forget what was noted."""
        self._monkeypatch.setenv("ISC_FAST_TEST", code)
        self._log.unlink(missing_ok=True)

    def noted(self, key: str) -> list[tuple[int, object]]:
        """(process, what it noted), in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        rows = [json.loads(line) for line in lines]
        return [(row["pid"], row[key]) for row in rows if key in row]

    def pids(self) -> list[int]:
        """Of the processes that ran the engine on photos, in the order in which they began."""
        return list(dict.fromkeys(pid for pid, _ in self.noted("run")))


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    folder = tmp_path / "site"
    folder.mkdir()
    return Processes(folder, monkeypatch)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[Path, int], Path]) -> Path:
    """22 photos and two that are none: six shards of `SIZES`. No test changes them."""
    folder = folder_of(tmp_path_factory.mktemp("workers") / "in", 22)
    (folder / "0bad.jpg").write_text("no picture")
    (folder / "zbad.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def whole(inputs: Path) -> bytes:
    """The result of one process."""
    return extract(inputs, "demo", inputs.parent / "whole.h5", devices="cpu", **SIZES).path.read_bytes()


def parts_of(output: Path) -> list[str]:
    return sorted(part.name for part in Path(f"{output}.parts").glob("part-*"))


# --- the same bytes


@pytest.mark.parametrize("devices", ["cpu,cpu", ["cpu", "cpu", "cpu"]])
def test_several_give_the_bytes_of_one(tmp_path, inputs, whole, processes, devices):
    """Whatever libraries print; and the count of what is done rises to all there is."""
    processes.do(SLOW + "before(OrtEngine, 'run', lambda *_: (print('noise', flush=True), os.write(1, b'noise')))")
    steps: list[tuple[int, int, int]] = []
    made = extract(
        inputs, "demo", tmp_path / "o.h5", devices=devices, progress=lambda *step: steps.append(step), **SIZES
    )
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert (made.count, made.computed) == (22, 24)
    assert [failure.id for failure in made.failures] == ["0bad", "zbad"]
    assert len(processes.pids()) == len(devices.split(",") if isinstance(devices, str) else devices)
    assert (steps[0], steps[-1]) == ((0, 24, 0), (24, 24, 2))
    assert [done for done, _, _ in steps] == list(range(0, 25, 2))
    assert not (tmp_path / "o.h5.parts").exists()
    assert not any(map(lives, processes.pids()))


def test_no_shard_is_computed_twice(tmp_path, inputs, whole, processes):
    processes.do(NOTED)
    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", **SIZES)
    assert sum(count for _, count in processes.noted("run")) == 24


def test_a_decoder_that_looks_many_shards_ahead(tmp_path, inputs, processes):
    """It asks for shards long before it has finished one."""
    extract(inputs, "demo", tmp_path / "one.h5", batch_size=1, shard_size=1)
    extract(inputs, "demo", tmp_path / "two.h5", batch_size=1, shard_size=1, workers=16, devices="cpu,cpu")
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_the_plan_is_that_of_one_device(tmp_path, inputs):
    """Without a batch size given: it is what suits the engine, not its share of the machine."""
    extract(inputs, "demo", tmp_path / "one.h5", engine_options={"threads": 2})
    extract(inputs, "demo", tmp_path / "two.h5", engine_options={"threads": 2}, devices="cpu,cpu")
    one, two = (load_descriptors(tmp_path / f"{name}.h5") for name in ("one", "two"))
    assert one.meta == two.meta
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert extract(inputs, "demo", tmp_path / "two.h5").computed == 0


def test_openvino_s_batch_depends_on_threads_and_not_on_processes(tmp_path, inputs):
    pytest.importorskip("openvino")
    options = {"runtime": "openvino", "threads": 4}
    runner = choose_runner("demo", "cpu,cpu", options)
    assert isinstance(runner, ProcessRunner)
    assert runner.facts.default_batch_size == load_engine("demo", **options).default_batch_size == 8
    extract(inputs, "demo", tmp_path / "one.h5", engine_options=options)
    extract_with(runner, inputs, tmp_path / "two.h5", Request())
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_threads_are_shared(tmp_path, inputs, processes):
    code = NOTED + "before(OrtEngine, '__init__', lambda *_, threads=None, **__: note(threads=threads))\n"
    processes.do(code + "before(ThreadedDecoder, '__init__', lambda _, workers=None: note(workers=workers))")
    options = {"threads": 3}
    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", workers=5, engine_options=options, **SIZES)
    assert processes.noted("threads")[0][1] == 3  # the one that only tells what the engine is
    assert sorted(threads for _, threads in processes.noted("threads")[1:]) == [1, 2]
    assert sorted(workers for _, workers in processes.noted("workers")) == [2, 3]


def test_not_more_processes_than_shards(tmp_path, inputs, processes):
    processes.do(NOTED + "before(OrtEngine, '__init__', lambda *_, **__: note(loads=1))")
    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu,cpu,cpu", batch_size=4, shard_size=20)
    assert len(processes.noted("loads")) == 1 + 2
    processes.do(NOTED + "before(OrtEngine, '__init__', lambda *_, **__: note(loads=1))")
    assert extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu").computed == 0
    assert len(processes.noted("loads")) == 1


# --- processes that end by themselves


def test_a_killed_process_loses_nothing(tmp_path, inputs, whole, processes):
    processes.do(SLOW)
    steps: list[tuple[int, int, int]] = []

    def kill_one(*step: int) -> None:
        steps.append(step)
        if len(steps) == 4:  # both are at work
            os.kill(processes.pids()[0], signal.SIGKILL)

    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", progress=kill_one, **SIZES)
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert steps[-1] == (24, 24, 2), "what was lost with it is not counted twice"
    killed = processes.pids()[0]
    assert 0 < sum(pid == killed for pid, _ in processes.noted("run")) < 6


def test_half_a_shard_that_is_lost_is_not_counted(tmp_path, inputs, whole, processes):
    """One process, at its second batch: it has told of the first, and stored nothing."""
    code = "calls = []\ndef die(*_):\n calls.append(1)\n flag = os.environ['ISC_FAST_TEST_LOG'] + '.died'\n"
    code += " if len(calls) == 2 and not os.path.exists(flag):\n  open(flag, 'x').close()\n"
    code += "  os.kill(os.getpid(), signal.SIGKILL)\n"
    processes.do(SLOW + code + "before(OrtEngine, 'run', die)")
    steps: list[int] = []
    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", progress=lambda done, *_: steps.append(done), **SIZES)
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert [later - earlier for earlier, later in itertools.pairwise(steps)].count(-2) == 1
    assert steps[-1] == 24


def test_signals_to_a_process_are_for_the_one_that_started_it(tmp_path, inputs, whole, processes):
    """A terminal and a supervisor send them to all; those that compute go on until that one ends."""
    processes.do(SLOW)
    steps: list[int] = []

    def send(done: int, *_: int) -> None:
        steps.append(done)
        if len(steps) == 4:
            for pid in processes.pids():
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)

    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", progress=send, **SIZES)
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert len(processes.pids()) == 2


def test_all_killed_is_one_error_and_resumes_on_one_device(tmp_path, inputs, whole, processes):
    processes.do(SLOW)
    output = tmp_path / "o.h5"

    def kill_all(*_step: int) -> None:
        if len(parts_of(output)) == 2:
            for pid in processes.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with pytest.raises(EngineError) as caught:
        extract(inputs, "demo", output, devices="cpu,cpu", progress=kill_all, **SIZES)
    text = str(caught.value)
    assert "the process on cpu was ended by SIGKILL, perhaps for want of memory, and no other is left" in text
    assert "run the same command again" in text
    assert "\n" not in text
    complete = len(parts_of(output))
    assert 2 <= complete < 6
    assert extract(inputs, "demo", output).computed == 24 - 4 * complete
    assert output.read_bytes() == whole


# The first bad file is in the first shard, so the first process to look at it dies; good ones are in its hands, too.
DIES = "'0bad' in photo and (note(dies=1), os.kill(os.getpid(), signal.SIGKILL)))"
POISON = NOTED + f"before(TurboDecoder, 'decode_into', lambda _, photo, *__: {DIES}"
# This one kills the worker even where another process decodes.
WORSE = NOTED + f"before(ThreadedDecoder, '_attempt', lambda _, photo, *__: {DIES}"


@pytest.mark.parametrize("devices", ["cpu,cpu,cpu", "cpu,cpu"], ids=["some are left", "none is left"])
def test_a_photo_that_kills_is_a_row_of_the_ledger(tmp_path, inputs, processes, devices):
    """The result is that of photos which were isolated all the time."""
    pytest.importorskip("simplejpeg")
    processes.do(POISON)
    extract(inputs, "demo", tmp_path / "isolated.h5", isolated=True, **SIZES)
    processes.do(POISON)
    steps: list[tuple[int, int, int]] = []
    extract(inputs, "demo", tmp_path / "o.h5", devices=devices, progress=lambda *step: steps.append(step), **SIZES)
    assert len(processes.noted("dies")) == 3, "two workers, and the process that found out"
    assert (tmp_path / "o.h5").read_bytes() == (tmp_path / "isolated.h5").read_bytes()
    found = load_descriptors(tmp_path / "o.h5")
    assert [(failure.id, failure.stage) for failure in found.failures] == [("0bad", "decode"), ("zbad", "decode")]
    assert "the decoder's process ended over it (SIGKILL)" in found.failures[0].reason
    assert [step for step in steps if step == (0, 24, 0)] == steps[:1], "progress begins once"
    assert steps[-1] == (24, 24, 2)


def test_a_shard_that_kills_is_left_and_the_others_are_done(tmp_path, inputs, whole, processes):
    processes.do(WORSE)
    output = tmp_path / "o.h5"
    with pytest.raises(EngineError) as caught:
        extract(inputs, "demo", output, devices="cpu,cpu,cpu,cpu", **SIZES)
    text = str(caught.value)
    assert text.startswith(f"3 processes ended over the images {inputs / '0bad.jpg'} to {inputs}/")
    assert "(the process on cpu was ended by SIGKILL, perhaps for want of memory)" in text
    assert "\n" not in text
    assert "all else is done" in text
    assert len(processes.noted("dies")) == 3, "it is not tried for ever"
    assert parts_of(output) == [f"part-{number:06d}.h5" for number in range(1, 6)]
    processes.do(NOTED)
    assert extract(inputs, "demo", output, devices="cpu,cpu").computed == 4
    assert output.read_bytes() == whole


def test_an_error_that_nobody_expected_ends_the_worker_and_not_the_patience(tmp_path, inputs, processes, capfd):
    """It once made the worker wait for ever, at the end of its interpreter, for the thread that reads its input."""
    processes.do("before(OrtEngine, 'run', lambda *_: 1 / 0)")
    with pytest.raises(EngineError, match="ended with status 1"):
        extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", **SIZES)
    assert "ZeroDivisionError: division by zero" in capfd.readouterr().err


def test_what_was_in_the_same_hands_is_done_by_others(tmp_path, inputs, processes):
    """The process that dies has looked ahead and has every shard there is; which of them it was is found out."""
    slowly = WORSE.replace("note(dies=1)", "time.sleep(1), note(dies=1)")
    processes.do(slowly)
    output = tmp_path / "o.h5"
    with pytest.raises(EngineError, match="all else is done"):
        extract(inputs, "demo", output, devices="cpu,cpu,cpu,cpu", workers=64, **SIZES)
    assert len(processes.noted("dies")) == 3
    assert parts_of(output) == [f"part-{number:06d}.h5" for number in range(1, 6)]


def test_a_shard_that_kills_every_process_there_is(tmp_path, inputs, processes):
    processes.do(WORSE)
    output = tmp_path / "o.h5"
    with pytest.raises(EngineError, match="3 processes ended over the images"):
        extract(inputs, "demo", output, devices="cpu,cpu", workers=1, **SIZES)
    assert len(processes.noted("dies")) == 3
    assert len(parts_of(output)) >= 3


def test_a_process_that_fails_while_it_loads_is_done_without(tmp_path, inputs, whole, processes):
    """The second of two: the first is the one that tells what the engine is, the next one dies."""
    once = "flag = os.environ['ISC_FAST_TEST_LOG'] + '.count'\n"
    once += "def load(*_, **__):\n open(flag, 'a').write('x')\n if os.path.getsize(flag) == 2: os._exit(3)\n"
    processes.do(NOTED + once + "before(OrtEngine, '__init__', load)")
    extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu", **SIZES)
    assert (tmp_path / "o.h5").read_bytes() == whole
    assert len(processes.pids()) == 1


def test_no_process_can_load(tmp_path, inputs, processes):
    processes.do("before(OrtEngine, '__init__', lambda *_, **__: os._exit(3))")
    with pytest.raises(EngineError, match="the process that loaded demo on cpu ended with status 3"):
        extract(inputs, "demo", tmp_path / "o.h5", devices="cpu,cpu")
    assert not (tmp_path / "o.h5.parts").exists()


def test_an_error_of_one_process_ends_the_run_and_it_resumes(tmp_path, inputs, whole, processes):
    code = "calls = []\ndef fail(*_):\n calls.append(1)\n"
    code += " if len(calls) == 4: raise EngineError('the fourth batch is too much')\n"
    processes.do(NOTED + code + "before(OrtEngine, 'run', fail)")
    output = tmp_path / "o.h5"
    with pytest.raises(EngineError, match=r"^the fourth batch is too much$"):
        extract(inputs, "demo", output, devices="cpu,cpu", **SIZES)
    assert not any(map(lives, processes.pids()))
    assert 1 <= len(parts_of(output)) < 6
    processes.do(NOTED)
    extract(inputs, "demo", output, devices="cpu,cpu", **SIZES)
    assert output.read_bytes() == whole


def test_a_full_disk_in_a_process(tmp_path, inputs, whole, processes):
    """A limit on file size stands for it, as in the tests of one process."""
    limit = "import resource\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    processes.do(limit + "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))")
    output = tmp_path / "o.h5"
    with pytest.raises(OutputError, match=r"cannot write .*part-00000\d\.h5"):
        extract(inputs, "demo", output, devices="cpu,cpu", **SIZES)
    processes.do("")
    extract(inputs, "demo", output, devices="cpu,cpu", **SIZES)
    assert output.read_bytes() == whole


# --- the process that started them


@contextlib.contextmanager
def command(processes: Processes, *arguments: object, code: str = "") -> Iterator[subprocess.Popen[str]]:
    """An extraction with two slow processes, by the command line, in a process group of its own."""
    processes.do(SLOW + code)
    words = [sys.executable, "-m", "isc_fast", "extract", *map(str, arguments), "--engine", "demo"]
    words += ["--device", "cpu,cpu", "--batch-size", "2", "--shard-size", "4"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until(lambda: len(processes.pids()) == 2 or process.poll() is not None)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def test_the_command_line(tmp_path, inputs, whole, processes):
    with command(processes, inputs, "-o", tmp_path / "o.h5") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith(f"{tmp_path / 'o.h5'}: 22 descriptors, 2 images failed")
    assert "extract: 24/24 100%" in err
    assert (tmp_path / "o.h5").read_bytes() == whole


def test_killed_it_leaves_nobody_behind(tmp_path, inputs, whole, processes):
    """Not even when they are busy and neither ask nor tell anything: here for 100 seconds, after a shard each."""
    output = tmp_path / "o.h5"
    busy = "calls = []\nbefore(OrtEngine, 'run', lambda *_: calls.append(1) or (len(calls) == 3 and time.sleep(100)))"
    with command(processes, inputs, "-o", output, code=busy) as process:
        pids = processes.pids()
        assert len(pids) == 2
        assert all(map(lives, pids))
        until(lambda: parts_of(output))
        process.kill()
        process.wait(timeout=30)
        until(lambda: not any(map(lives, pids)), 10)  # by themselves: nobody has told them
    assert 1 <= len(parts_of(output)) < 6
    processes.do(NOTED)
    extract(inputs, "demo", output, devices="cpu,cpu", **SIZES)
    assert output.read_bytes() == whole


def test_nobody_else_begins_while_one_of_them_lives(tmp_path, inputs, whole, processes):
    """One that cannot end, since it is stopped, could go on and write: it has the lock."""
    output = tmp_path / "o.h5"
    with command(processes, inputs, "-o", output) as process:
        pids = processes.pids()
        os.kill(pids[1], signal.SIGSTOP)
        until(lambda: stands_still(pids[1]), 10)
        process.kill()
        process.wait(timeout=30)
        until(lambda: not lives(pids[0]), 10)
        assert lives(pids[1])
        with pytest.raises(OutputError, match="another process is extracting"):
            extract(inputs, "demo", output, **SIZES)
        os.kill(pids[1], signal.SIGCONT)
        until(lambda: not lives(pids[1]), 10)
    extract(inputs, "demo", output, **SIZES)
    assert output.read_bytes() == whole


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [True, False], ids=["to all", "to one"])
def test_ctrl_c_leaves_a_state_that_resumes(tmp_path, inputs, whole, processes, sent, to_all):
    """A terminal sends it to all processes of the command, a supervisor to one."""
    output = tmp_path / "o.h5"
    with command(processes, inputs, "-o", output) as process:
        until(lambda: parts_of(output))
        pids = processes.pids()
        (os.killpg if to_all else os.kill)(process.pid, sent)
        _, err = process.communicate(timeout=30)
        assert not any(map(lives, pids))
    assert process.returncode == 130
    assert re.search(r"interrupted: [1-9]\d* of \d+ photos are kept; run the same command again\n$", err)
    assert "Traceback" not in err
    complete = len(parts_of(output))
    assert 1 <= complete < 6
    processes.do(NOTED)
    assert extract(inputs, "demo", output, devices="cpu,cpu", **SIZES).computed == 24 - 4 * complete
    assert output.read_bytes() == whole


# --- devices


def test_every_process_sees_its_own_gpu(tmp_path, inputs, whole, processes, monkeypatch):
    """All but the GPU itself: the engine is loaded on the processor instead."""
    fake = FakeCuda()
    fake.devices *= 2
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-1234")
    code = "import isc_fast.engines.base as engines\nreal = engines.load_engine\n"
    code += "def load(path, *, device, **options):\n"
    code += " note(device=[device, os.environ['CUDA_VISIBLE_DEVICES']])\n return real(path, **options)\n"
    processes.do(SLOW + code + "engines.load_engine = load")
    extract(inputs, "demo", tmp_path / "o.h5", devices="cuda:all", **SIZES)
    first, *others = [device for _, device in processes.noted("device")]
    assert first == ["cuda", "5"]
    assert sorted(others) == [["cuda", "5"], ["cuda", "GPU-1234"]]
    assert (tmp_path / "o.h5").read_bytes() == whole


def test_an_error_says_on_which_gpu(tmp_path, inputs, processes, monkeypatch):
    fake = FakeCuda()
    fake.devices *= 2
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    code = "import isc_fast.engines.base as engines\nreal = engines.load_engine\n"
    code += "def load(path, *, device, part, **options):\n"
    code += " if part.number == 1: raise EngineError('it is too small')\n return real(path, part=part, **options)\n"
    processes.do(SLOW + code + "engines.load_engine = load")
    with pytest.raises(EngineError, match=r"^cuda:1: it is too small$"):
        extract(inputs, "demo", tmp_path / "o.h5", devices="cuda:0,1", **SIZES)


def test_which_gpu_a_process_sees(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment("cuda:3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in environment("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,2")
    assert environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "2"
    assert environment("cpu")["CUDA_VISIBLE_DEVICES"] == "4,2"
    with pytest.raises(EngineError, match="there is no GPU 2: CUDA_VISIBLE_DEVICES is '4,2'"):
        environment("cuda:2")


def test_gpus_that_are_not_there_or_not_alike(tmp_path, inputs, monkeypatch):
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    with pytest.raises(EngineError, match="there is no GPU 1: this process sees 1"):
        extract(inputs, "demo", tmp_path / "o.h5", devices="cuda:0,1")
    fake.devices = [("Fake H100", 9, 0), ("Fake T4", 7, 5)]
    with pytest.raises(EngineError, match="do not give the same bytes"):
        extract(inputs, "demo", tmp_path / "o.h5", devices="cuda:all")
    assert os.listdir(tmp_path) == []


def test_a_loaded_engine_stays_where_it_is(tmp_path, inputs):
    engine = load_engine("demo")
    for options in ({"devices": "cpu"}, {"devices": ["cpu", "cpu"]}, {"engine_options": {"threads": 1}}):
        with pytest.raises(InputError, match="this engine is loaded already"):
            extract(inputs, engine, tmp_path / "o.h5", **options)
    runner = choose_runner(engine)
    assert isinstance(runner, Here)
    assert runner.engine is engine


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "there is no device 'gpu'; choose cpu, cuda, cuda:N"),
        ("cpu,cuda", "cpu,cuda:0 is both processor and GPU"),
        ("cpu,cpu --engine none.onnx", "there is no engine none.onnx"),
        ("cpu,cpu --engine notes.onnx", "notes.onnx is not an ONNX file"),
        ("cpu,cpu --threads 0", "threads must be at least 1"),
        ("cpu,cpu --workers 0", "workers must be at least 1"),
    ],
)
def test_mistakes_are_one_line(tmp_path, inputs, capfd, monkeypatch, device, words):
    monkeypatch.chdir(tmp_path)
    Path("in").symlink_to(inputs)
    Path("notes.onnx").write_text("just notes")
    assert main(["extract", "in", "--engine", "demo", "-o", "o.h5", "--device", *device.split()]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert sorted(os.listdir()) == ["in", "notes.onnx"]


def test_the_challenge_on_several_devices(tmp_path, photos, monkeypatch):
    """The engine is asked what it is once, for all sets."""
    for name, rows in (("query_images", photos[:5]), ("reference_images", photos[3:12])):
        (tmp_path / "in" / name).mkdir(parents=True)
        for photo in rows:
            (tmp_path / "in" / name / photo.name).symlink_to(photo)
    asked = []
    real = ProcessRunner.facts.func  # type: ignore[attr-defined]
    monkeypatch.setattr(ProcessRunner.facts, "func", lambda runner: asked.append(1) or real(runner))
    isc_fast.run_challenge(tmp_path / "in", "demo", tmp_path / "one")
    isc_fast.run_challenge(tmp_path / "in", "demo", tmp_path / "two", devices=["cpu", "cpu"])
    assert asked == [1]
    for name in ("query.h5", "reference.h5", "submission.h5", "matches.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
