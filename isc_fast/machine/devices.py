"""The names of devices that ``--device`` takes: ``cpu``, ``cuda``, ``cuda:1``, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import EngineError

KINDS = ("cpu", "cuda")
EXPECTED = "choose cpu, cuda, cuda:N, several as cuda:0,1, or cuda:all"


def split_device(name: str) -> tuple[str, int]:
    """Split a device's name into its kind and its number, from 0: ``"cuda"`` → ``("cuda", 0)``, ``"cuda:1"`` → ``("cuda", 1)``.

    Raises:
        EngineError: this is not the name of a device.
    """
    kind, colon, number = name.partition(":")
    if kind not in KINDS or (colon and (kind == "cpu" or not _is_number(number))):
        raise EngineError(f"there is no device {name!r}; {EXPECTED}")
    return kind, int(number) if colon else 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def parse_devices(text: str | Sequence[str], count_gpus: Callable[[], int]) -> list[str]:
    """Read a list of devices and name each as `split_device` takes it.

    ``"cuda:0,1"`` → ``["cuda:0", "cuda:1"]``, ``"cpu,cpu"`` → ``["cpu", "cpu"]``. A device named twice gets two processes.

    Args:
        text: the list, as text or as names.
        count_gpus: says how many GPUs ``cuda:all`` stands for; called only then.

    Raises:
        EngineError: the list names no device, names something else, or names processor and GPU beside each other.
    """
    names = text.split(",") if isinstance(text, str) else list(text)
    if names == ["cuda:all"]:
        return [f"cuda:{number}" for number in range(count_gpus())]
    devices: list[str] = []
    for name in (name.strip() for name in names):
        only_number = _is_number(name) and devices and devices[-1].startswith("cuda:")
        kind, number = split_device(f"cuda:{name}" if only_number else name)
        devices.append(kind if kind == "cpu" else f"cuda:{number}")
    if not devices:
        raise EngineError(f"no device is named; {EXPECTED}")
    if len({split_device(name)[0] for name in devices}) > 1:
        # Their last bits differ, so the result would depend on which of them computed a shard.
        raise EngineError(
            f"{','.join(devices)} is both processor and GPU, which do not give the same bytes; choose one"
        )
    return devices
