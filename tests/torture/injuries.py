"""The injuries. Each is a function of the scene and of a generator of random numbers, and raises `Failed` where a run does not
survive it: other bytes, a row lost or doubled, something left behind, a hang, a traceback, or a failure without a reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil
from scene import DAMAGED, OPTIONS, PHOTOS, VERBS, Failed, Scene

Injury = Callable[[Scene, Random], None]
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
PROMPTLY_S = 15.0  # to end after a polite signal, on a busy machine; Python alone may take seconds to start


def _wait(scene: Scene, rng: Random, process: subprocess.Popen[str], name: str = "out.h5") -> None:
    """Wait for a random moment of the run, or for its end. Python's own start is over: an interrupt there is Python's affair."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if "numpy" in Path(f"/proc/{process.pid}/maps").read_text():
                break
        time.sleep(0.01)
    try:
        process.wait(rng.uniform(0, 1) * scene.seconds[name])
    except subprocess.TimeoutExpired:
        return


def _signalled(name: str, number: int) -> Injury:
    def injure(scene: Scene, rng: Random) -> None:
        output = scene.fresh() / name
        for _ in range(rng.randint(1, 3)):
            process = scene.start(*scene.command(name, output))
            _wait(scene, rng, process, name)
            if process.poll() is None:
                process.send_signal(number)
            scene.end(process, PROMPTLY_S)
            if output.exists():
                break
        scene.finish(name, output)

    return injure


def _workers(number: int) -> Injury:
    def injure(scene: Scene, rng: Random) -> None:
        """One of two worker processes is killed, or stopped for a while."""
        output = scene.fresh() / "out.h5"
        process = scene.start(*scene.command("out.h5", output, "--device", "cpu,cpu"))
        _wait(scene, rng, process)
        try:
            children = psutil.Process(process.pid).children()
        except psutil.NoSuchProcess:
            children = []
        for child in rng.sample(children, min(1, len(children))):
            try:
                child.send_signal(number)
                if number == signal.SIGSTOP:
                    time.sleep(rng.uniform(0, 1))
                    child.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
        scene.end(process)
        scene.finish("out.h5", output)

    return injure


def _two_at_once(before: tuple[str, ...] = ()) -> Injury:
    def injure(scene: Scene, rng: Random) -> None:
        """Two runs on one output: the second is refused, or comes after the first. Neither harms the other."""
        output = scene.fresh() / "out.h5"
        first = scene.start(*scene.command("out.h5", output), before=before)
        time.sleep(rng.uniform(0, scene.seconds["out.h5"]))
        second = scene.start(*scene.command("out.h5", output), before=before)
        ended = [scene.end(process) for process in (first, second)]
        if not any(run.status == 0 for run in ended):
            raise Failed("; ".join(run.words for run in ended))
        scene.finish("out.h5", output)

    return injure


def damaged_part(scene: Scene, rng: Random) -> None:
    """A run is killed, one of its files is cut or changed at a random place, and it is run again."""
    output = scene.fresh() / "out.h5"
    process = scene.start(*scene.command("out.h5", output))
    while process.poll() is None and not list(Path(f"{output}.parts").glob("part-*")):
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    scene.end(process)
    files = sorted(path for path in Path(f"{output}.parts").glob("*") if path.is_file() and path.stat().st_size)
    if files:
        file = rng.choice(files)
        content = bytearray(file.read_bytes())
        if rng.random() < 0.5:
            del content[rng.randrange(len(content)) :]
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    ended = scene.run(*scene.command("out.h5", output))
    if ended.status:
        raise Failed(ended.words)
    scene.compare("out.h5", output)


def full_disk(scene: Scene, rng: Random) -> None:
    """The disk is full at some point; then there is room, and the same command goes on."""
    folder = scene.fresh()
    kilobytes = 4 * rng.randint(1, 30)
    command = " ".join(
        f"'{word}'" for word in [os.sys.executable, "-m", "isc_fast", *scene.command("out.h5", folder / "out.h5")]
    )
    script = (
        f"mount -t tmpfs -o size={kilobytes}k none '{folder}' && {{ {command}; s=$?; "
        f"mount -o remount,size=50m '{folder}'; {{ [ $s = 0 ] || {command}; }} && mkdir '{folder}/../saved' && "
        f"cp -a '{folder}/.' '{folder}/../saved/'; }}"
    )
    saved = scene.home / "saved"
    shutil.rmtree(saved, ignore_errors=True)
    process = subprocess.Popen(
        [*NAMESPACE, "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    ended = scene.end(process)
    if ended.status:
        raise Failed(ended.words)
    scene.compare("out.h5", saved / "out.h5")


def read_only_folder(scene: Scene, rng: Random) -> None:
    """The folder of the output cannot be written: one line, and nothing happens."""
    folder = scene.fresh()
    command = " ".join(
        f"'{word}'"
        for word in [os.sys.executable, "-m", "isc_fast", *scene.command(rng.choice(list(VERBS)), folder / "out.h5")]
    )
    process = subprocess.Popen(
        [*NAMESPACE, "sh", "-c", f"mount -t tmpfs -o ro none '{folder}' && {command}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    ended = scene.end(process)
    if ended.status != 1:
        raise Failed(f"status {ended.status}: {ended.words}")


def no_room_for_temporary_files(scene: Scene, rng: Random) -> None:
    """TMPDIR is full or missing. A run needs none of it, or says so."""
    output = scene.fresh() / "out.h5"
    name = rng.choice(["/proc", "/nonexistent"])
    scene.run(*scene.command("out.h5", output), TMPDIR=name)
    scene.finish("out.h5", output)


def _small(room: Path, size: str, fill: bool = False) -> tuple[str, ...]:
    """What starts a run in a namespace where a folder is a file system of that size, filled or not."""
    filled = f"cat /dev/zero > '{room}/filled' 2> /dev/null;" if fill else ""
    room.mkdir(exist_ok=True)
    return (*NAMESPACE, "sh", "-c", f"mount -t tmpfs -o size={size} none '{room}' && {{ {filled} exec \"$@\"; }}", "sh")


def full_temporary_folder(scene: Scene, rng: Random) -> None:
    """TMPDIR is full. Small runs need none of it; a run that does need it says so."""
    room = scene.home / "room"
    for name in VERBS:
        output = scene.fresh() / name
        scene.run(*scene.command(name, output), before=_small(room, "16k", fill=True), TMPDIR=str(room))
        scene.finish(name, output)


def too_small_temporary_folder(scene: Scene, rng: Random) -> None:
    """TMPDIR has no room for the list of images or for the ledger: one line says so, and another TMPDIR gives the same bytes."""
    folder, room = scene.fresh(), scene.home / "room"
    photos = [str(photo) for photo in sorted(scene.photos.iterdir())]
    gone = [f"{'gone' * 50}/{number:06d}.jpg" for number in range(5000)]
    (scene.home / "list.txt").write_text("\n".join(photos + gone) + "\n")
    command = ("extract", str(scene.home / "list.txt"), "--engine", "demo", "--shard-size", "1024", "-o")
    expected, output = scene.home / "expected.h5", folder / "out.h5"
    if not expected.exists() and scene.run(*command, str(expected)).status:
        raise Failed("without an injury")
    for size in ("64k", f"{rng.randint(300, 7000)}k"):
        ended = scene.run(*command, str(output), before=_small(room, size), TMPDIR=str(room))
        if ended.status and "TMPDIR" not in ended.words:
            raise Failed(f"{size}: {ended.words}")
        if size == "64k" and not ended.status:
            raise Failed("this list fits into 64 kB, and shows nothing")
    if scene.run(*command, str(output)).status:
        raise Failed("with room")
    if output.read_bytes() != expected.read_bytes():
        raise Failed("other bytes")


def vanishing_output_folder(scene: Scene, rng: Random) -> None:
    """The folder of the output is removed during the run."""
    folder = scene.fresh()
    process = scene.start(*scene.command("out.h5", folder / "out.h5"))
    _wait(scene, rng, process)
    shutil.rmtree(folder, ignore_errors=True)
    scene.end(process)
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder)
    folder.mkdir()
    scene.finish("out.h5", folder / "out.h5")


def changing_photos(scene: Scene, rng: Random) -> None:
    """Photos vanish, change, or become pipes that nobody writes to, during the run: a row or an entry for each."""
    folder = scene.fresh()
    photos = folder / "in"
    shutil.copytree(scene.photos, photos)
    output = folder / "out.h5"
    process = scene.start("extract", str(photos), *OPTIONS, "-o", str(output))
    while process.poll() is None and not Path(f"{output}.parts", "plan.sqlite").exists():
        time.sleep(0.005)
    for photo in rng.sample(sorted(photos.iterdir()), 6):
        kind = rng.choice(["vanish", "pipe", "cut", "folder"])
        if kind == "cut":
            photo.write_bytes(photo.read_bytes()[: rng.randrange(2000)])
            continue
        photo.unlink()
        if kind == "pipe":
            os.mkfifo(photo)
        elif kind == "folder":
            photo.mkdir()
    ended = scene.end(process)
    if ended.status not in (0, 1) or not output.exists():
        raise Failed(f"status {ended.status}: {ended.words}")
    scene.check_accounts(output, PHOTOS + DAMAGED)


INJURIES: dict[str, Injury] = {
    **{f"{word} {verb[0]}": _signalled(name, number)
       for word, number in (("SIGKILL", signal.SIGKILL), ("SIGTERM", signal.SIGTERM), ("SIGINT", signal.SIGINT))
       for name, verb in VERBS.items()},
    "SIGKILL a worker": _workers(signal.SIGKILL),
    "a worker stands still": _workers(signal.SIGSTOP),
    "two runs at once": _two_at_once(),
    "two runs in two process-id namespaces": _two_at_once(("unshare", "-rpf", "--mount-proc")),
    "damaged part": damaged_part,
    "full disk": full_disk,
    "read-only folder": read_only_folder,
    "no room for temporary files": no_room_for_temporary_files,
    "full temporary folder": full_temporary_folder,
    "too small temporary folder": too_small_temporary_folder,
    "vanishing output folder": vanishing_output_folder,
    "changing photos": changing_photos,
}  # fmt: skip
NEEDS_NAMESPACES = {
    *("two runs in two process-id namespaces", "full disk", "read-only folder"),
    *("full temporary folder", "too small temporary folder"),
}


def has_namespaces() -> bool:
    """Whether this user may make namespaces of its own, with file systems in them."""
    try:
        done = subprocess.run([*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
