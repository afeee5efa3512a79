"""A real Ray cluster for tests: a head and more nodes on this machine, whose workers tests slow down, watch and kill.

What a test wants of the workers stands in a folder that they look into: the file ``slow`` makes each batch, and each task of a
search, take a while, ``unlike`` gives one of them another processor, and the workers write down what they do in ``log``. A photo
with ``poison`` in its name ends every process that decodes it. This comes from a ``sitecustomize`` on the workers' path.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import processes
from processes import lives as lives

SITE = """
import json, os, sys
CONTROL = os.environ.get("ISC_FAST_RAY_ROOM")
RAY = any(name.endswith("default_worker.py") for name in sys.orig_argv)
if CONTROL and (RAY or "isc_fast.decoders.isolated_child" in sys.orig_argv):
    import signal, time
    from isc_fast.decoders.turbo import TurboDecoder

    def before(kind, name, action):
        real = getattr(kind, name)
        def changed(self, *arguments, **options):
            action(self, *arguments, **options)
            return real(self, *arguments, **options)
        setattr(kind, name, changed)

    def note(**what):
        with open(CONTROL + "/log", "a") as log:
            log.write(json.dumps({"pid": os.getpid(), **what}) + "\\n")

    def decoding(_, photo, *__):
        if "poison" in str(photo):
            note(dies=1)
            os.kill(os.getpid(), signal.SIGKILL)

    before(TurboDecoder, "decode_into", decoding)
    if RAY:
        from isc_fast.engines.ort import OrtEngine
        from isc_fast.extraction.parts import PartsFolder
        from isc_fast.extraction.runners import engine_tool
        from isc_fast.matching.pairs.search_tasks import SearchTasks

        def running(*_):
            note(run=1)
            try:
                with open(CONTROL + "/slow") as slow:
                    time.sleep(float(slow.read() or 0))
            except FileNotFoundError:
                pass

        before(OrtEngine, "run", running)
        before(SearchTasks, "pairs", running)
        before(PartsFolder, "write_part", lambda _, plan, shard, *__: note(part=shard.index))
        device_of = engine_tool.device_of

        def unlike(engine):
            try:
                os.rename(CONTROL + "/unlike", CONTROL + "/unlike.taken")
            except OSError:
                return device_of(engine)
            return {**device_of(engine), "processor": "x86_64 avx"}

        engine_tool.device_of = unlike
"""
WAIT_S = 240.0
"""Seconds for what takes a few on an idle machine."""


def until(condition: Callable[[], object], seconds: float = WAIT_S, every: float = 0.1) -> None:
    """See `processes.until`: what a cluster does takes longer."""
    processes.until(condition, seconds, every)


class Node:
    """The processes of one node, in a session of their own."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    @property
    def ended(self) -> bool:
        """Whether it has given up."""
        return self._process.poll() is not None

    def _pids(self) -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid=,sid="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, session in rows if int(session) == self._process.pid]

    def raylet(self) -> int:
        """The process that stands for the node."""
        for pid in self._pids():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                    return pid
        raise ProcessLookupError("this node has no raylet")

    def kill(self) -> None:
        """As when the machine loses its power."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Room:
    """See the module's text. Use it in a ``with`` block.

    Args:
        nodes: how many beside the head.
        cores: of each of them; those of the head are 0 if there are other nodes.

    Attributes:
        address: of the cluster.
        control: the folder that the workers look into.
        site: the folder that has to be on the path of processes that decode.
        environment: of processes that join the cluster.
    """

    def __init__(self, nodes: int = 0, cores: int = 2) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # names of sockets are short
        self.control = self._folder / "control"
        self.control.mkdir()
        self.site = self._folder / "site"
        self.site.mkdir()
        (self.site / "sitecustomize.py").write_text(SITE)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.site),
            "ISC_FAST_RAY_ROOM": str(self.control),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # ray start reports that reports are turned off
            "RAY_TMPDIR": str(self._folder),
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
        }
        self.nodes: list[Node] = []
        self.address = ""
        self._beside, self._cores = nodes, cores

    def _started(self, arguments: list[str]) -> Node:
        """Start a node. Ray gives up after 30 seconds where the machine is very busy."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--object-store-memory=80000000"]
        log = self._folder / "node.log"
        for _ in range(5):
            node = Node([*command, *arguments, "--disable-usage-stats"], self.environment, log)
            until(lambda node=node: "Ray runtime started" in log.read_text() or node.ended)  # type: ignore[misc]
            if not node.ended:
                return node
            node.kill()
        raise RuntimeError(f"no Ray node can be started here: {log.read_text()[-500:]}")

    def _start_head(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        self.nodes.append(self._started([*head, f"--num-cpus={0 if self._beside else self._cores}"]))
        until(lambda: any(file.read_text().strip() for file in self._folder.rglob("ray_current_cluster")))
        (found,) = self._folder.rglob("ray_current_cluster")
        self.address = found.read_text().strip()

    def join(self) -> Node:
        """Let another node join."""
        self.nodes.append(self._started([f"--address={self.address}", f"--num-cpus={self._cores}"]))
        return self.nodes[-1]

    def noted(self, key: str) -> list[tuple[int, int]]:
        """(process, what it noted), in order."""
        file = self.control / "log"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(row["pid"], row[key]) for row in rows if key in row]

    def pids(self) -> list[int]:
        """Of the workers that computed and live, in the order in which they began."""
        return [pid for pid in dict.fromkeys(pid for pid, _ in self.noted("run")) if lives(pid)]

    def forget(self) -> None:
        """Begin a new test."""
        for file in self.control.iterdir():
            file.unlink()

    def be_slow(self, seconds: float = 0.3) -> None:
        """Let each batch take a while from now on."""
        (self.control / "slow").write_text(str(seconds))

    def __enter__(self) -> Room:
        try:
            self._start_head()
            for _ in range(self._beside):
                self.join()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
