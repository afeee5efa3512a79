"""Processes that begin with their imports done: one process imports once, and forks itself for each program that a test starts.

    done = run([str(script), "--smoke"], timeout=500)  # as subprocess.run([sys.executable, str(script), "--smoke"], …)

Torch with its friends takes two to four seconds of processor time in every new Python. What is started here is a process like any
other: it has its own number, environment, folder, streams, signals and status, and the script or module is its ``__main__``. Only
imports are done already. What Python and libraries read when they start is the same for all: the seed of hashes, PYTHONPATH, and
OMP_NUM_THREADS, by which torch has one thread.

A program whose start is what is tested is started by `subprocess`, and so is every program here where coverage is measured.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

EXTRACTION = (
    *("h5py", "numpy.random", "simplejpeg", "cykooz_resizer", "sqlite3"),
    *("fakes", "isc_fast.extraction.pipeline", "isc_fast.decoders.pillow", "isc_fast.decoders.turbo"),
)
TORCH = (
    *("h5py", "torch", "torchvision", "timm", "onnxscript"),
    *("isc_fast.export", "isc_fast.training.run", "isc_fast.training.distillation"),
)
_LARGEST = 1 << 17  # bytes of a request: words and an environment
_SPENT_S = [0.0]


class Started:
    """A program that runs."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], imported: tuple[str, ...]) -> None:
        self.words = list(words)
        self._streams = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        self._cold: subprocess.Popen[str] | None = None
        if "COVERAGE_PROCESS_CONFIG" in os.environ or "COVERAGE_PROCESS_START" in os.environ:
            command = [sys.executable, *self.words]
            self._cold = subprocess.Popen(
                command, stdout=self._streams[0], stderr=self._streams[1], env=dict(environment)
            )
            return
        self._status, theirs = socket.socketpair()
        with theirs:
            request = json.dumps([self.words, dict(environment), os.getcwd()]).encode()
            fds = [theirs.fileno(), *(stream.fileno() for stream in self._streams)]
            socket.send_fds(_server(imported), [request], fds)

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return its status and what it wrote.

        Raises:
            subprocess.TimeoutExpired: it ran for longer, and was killed.
        """
        try:
            status = self._cold.wait(timeout) if self._cold else self._end(timeout)
        except (TimeoutError, subprocess.TimeoutExpired):
            self._kill()
            raise subprocess.TimeoutExpired(self.words, timeout, *self._written()) from None
        return subprocess.CompletedProcess(self.words, status, *self._written())

    def _written(self) -> list[str]:
        texts = []
        for stream in self._streams:
            with stream:
                stream.seek(0)
                texts.append(stream.read())
        return texts

    def _end(self, timeout: float) -> int:
        self._status.settimeout(timeout)
        with self._status, self._status.makefile("r") as lines:
            self._pid = int(lines.readline() or gone())
            code, spent_s = (lines.readline() or gone()).split()
            _SPENT_S[0] += float(spent_s)
            return int(code)

    def _kill(self) -> None:
        if self._cold:
            self._cold.kill()
            self._cold.wait()
        elif hasattr(self, "_pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def gone() -> NoReturn:
    """Say that nobody is left who knows how a program ended."""
    raise RuntimeError("the process that forks programs has ended; its standard error may say why")


def spent_s() -> float:
    """The processor time of all programs that have ended; they are not children of this process, whose times lack it."""
    return _SPENT_S[0]


def run(
    words: Sequence[str],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    imported: tuple[str, ...] = TORCH,
) -> subprocess.CompletedProcess[str]:
    """Run a script (its path and arguments) or a module (``-m``, its name and arguments) to its end."""
    return Started(words, os.environ if environment is None else environment, imported).wait(timeout)


def run_ranks(words: Sequence[str], number: int, *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a program in processes that find each other as those of torchrun do, by the environment; none may fail.

    Return rank 0's end, or that of the first one that failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(number))
    started = [Started(words, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, TORCH) for rank in range(number)]
    ended = [one.wait(timeout) for one in started]
    return max(ended, key=lambda done: done.returncode != 0)


@functools.cache
def _server(imported: tuple[str, ...]) -> socket.socket:
    """Start the process that imports these modules and forks; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), *imported],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    atexit.register(ours.close)
    return ours


def _serve(requests: socket.socket, imported: Sequence[str]) -> None:
    for name in imported:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for a program leave nothing to be waited for
    while True:
        message, fds, _, _ = socket.recv_fds(requests, _LARGEST, 3)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            os._exit(_watch(json.loads(message), fds))
        for fd in fds:
            os.close(fd)


def _watch(request: list[Any], fds: list[int]) -> int:
    """Start a program, and tell its number and its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os._exit(_become(*request, fds))
    with socket.socket(fileno=fds[0]) as status:
        status.send(f"{pid}\n".encode())
        _, ended, used = os.wait4(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            status.send(f"{os.waitstatus_to_exitcode(ended)} {used.ru_utime + used.ru_stime}\n".encode())
    return 0


def _become(words: list[str], environment: dict[str, str], folder: str, fds: list[int]) -> int:
    """Be the program, and return its status."""
    status, *streams = fds
    os.close(status)
    for fd, stream in zip(streams, (1, 2), strict=True):
        os.dup2(fd, stream)
        os.close(fd)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    module = words[0] == "-m"
    sys.argv = words[1:] if module else words
    sys.path[0] = folder if module else str(Path(words[0]).resolve().parent)
    try:
        if module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    return _finish(code)


def _finish(code: int) -> int:
    """Do what Python does at its end: threads are waited for, what is registered is called, streams are flushed."""
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
