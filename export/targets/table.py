"""The table of targets, and how one of them is chosen for what a user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict

from ...engines.spec import PRECISIONS
from ...errors import EngineError
from .aoti_package import AotiTarget
from .base import Target
from .onnx_fp32 import OnnxTarget
from .onnx_reduced import ReducedTarget
from .tensorrt_plan import PlanTarget

FP32 = OnnxTarget()
"""Makes the fp32 engine that other targets start from."""

TARGETS: tuple[Target, ...] = (FP32, ReducedTarget(), AotiTarget(), PlanTarget())
"""Every kind of engine that the exporter makes. Rows of one suffix stand together; the first one names the default."""


class TargetOptions(TypedDict, total=False):
    """The options of all targets, for type checkers; each stands in the options class of the target that takes it."""

    weights_as: str
    tta: bool
    preprocess: str | None
    runtime: str | None
    device: str | None
    batch: Any
    timing_cache: Any
    version_compatible: bool
    hardware_compatible: bool


def choose_target(output: Path, precision: str | None) -> tuple[Target, str]:
    """The target that makes this file in this precision, and the precision where none was given.

    Raises:
        EngineError: no target does.
    """
    rows = [target for target in TARGETS if target.suffix == output.suffix.lower()]
    if not rows:
        suffixes = dict.fromkeys(target.suffix for target in TARGETS)
        raise EngineError(
            f"cannot export {output.name!r}: this version writes {', '.join(suffixes)} engines only; run again with "
            f"-o {output.with_suffix('.onnx')}"
        )
    precision = precision or rows[0].default_precision
    for target in rows:
        if precision in target.precisions:
            return target, precision
    raise EngineError(_no_such_precision(rows, output, precision))


def _no_such_precision(rows: list[Target], output: Path, precision: str) -> str:
    if precision not in PRECISIONS:
        return f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}"
    kind, here = rows[0].kind, ", ".join(name for target in rows for name in target.precisions)
    why = rows[0].refusals.get("precision", f"{kind} computes in {here}, not in {{value}}").format(value=precision)
    others = dict.fromkeys(output.with_suffix(target.suffix) for target in TARGETS if precision in target.precisions)
    elsewhere = " or ".join(f"-o {other}" for other in others)
    return f"{why}; choose one of {here}" + (f", or run again with {elsewhere}" if others else "")


def option_names(target: Target) -> list[str]:
    """The names of the options that this target takes."""
    return [entry.name for entry in fields(target.options)]


def options_for(target: Target, given: Mapping[str, Any], output: Path) -> Any:
    """The options of a target from what a user gave; None and False count as not given.

    Raises:
        EngineError: an option belongs to another target; the message says to which.
        TypeError: no target has such an option.
    """
    taken = {}
    for name, value in given.items():
        owners = [row for row in TARGETS if name in option_names(row)]
        if not owners:
            raise TypeError(f"export_engine() got an unexpected keyword argument {name!r}")
        if value is None or value is False or target.implied.get(name) == value:
            continue
        if name not in option_names(target):
            raise EngineError(_belongs_to(owners, target, name, value, output))
        taken[name] = value
    return target.options(**taken)


def _belongs_to(owners: list[Target], target: Target, name: str, value: Any, output: Path) -> str:
    """Why a target does not take an option, which target does, and how to choose that one."""
    flag = f"--{name.replace('_', '-')}"
    of = " or ".join(_called(owner) for owner in owners)
    general = f"{_called(target)} takes no {flag}"
    why = target.refusals.get(name, owners[0].only.get(name, general)).format(flag=flag, value=value)
    again = " or ".join(_chosen_by(owner, target, output) for owner in owners)
    return f"{why}; leave out {flag}, which is an option of {of}, or run again with {again}"


def _called(target: Target) -> str:
    """``"a .plan"``, or ``"an .onnx engine in fp32"`` where other targets make other precisions of the same kind."""
    alone = sum(row.suffix == target.suffix for row in TARGETS) == 1
    return target.kind if alone else f"{target.kind} in {', '.join(target.precisions)}"


def _chosen_by(owner: Target, instead_of: Target, output: Path) -> str:
    """The flags that choose the owner."""
    name = f"-o {output.with_suffix(owner.suffix)}" if owner.suffix != instead_of.suffix else ""
    default = next(row for row in TARGETS if row.suffix == owner.suffix) is owner
    precision = "" if name and default else f"--precision {owner.precisions[0]}"
    return f"{name} {precision}".strip()
