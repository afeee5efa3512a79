"""What an export made, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines.operating_point import OperatingPoint
from ..engines.spec import EngineSpec


@dataclass(frozen=True)
class ExportReport:
    """What `export_engine` made.

    Attributes:
        path: the engine's file.
        spec: the specification in that file.
        size_bytes: the size of the file.
        seconds: how long the whole export took.
    """

    path: Path
    spec: EngineSpec
    size_bytes: int
    seconds: float

    @property
    def parity(self) -> dict[str, Any]:
        """What was measured against the network, see `isc_fast.export.agree.agree`."""
        return dict(self.spec.parity)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"path": str(self.path), "size_bytes": self.size_bytes, "seconds": self.seconds, **self.spec.to_dict()}

    def __str__(self) -> str:
        spec, parity = self.spec, self.parity
        compared = spec.runtime == "tensorrt" and not spec.accuracy
        against = "the fp32 engine" if compared else "torch" if spec.arch else "the file by itself"
        stored = spec.weights_as if spec.weights_as == spec.precision else f"stored as {spec.weights_as}"
        rows = [
            ("engine", f"{self.path}  {self.size_bytes / 1e6:.1f} MB, made in {self.seconds:.0f} s"),
            (
                "network",
                f"{spec.name}: {spec.arch or 'an ONNX file of another tool'}"
                + ("" if spec.gem_p is None else f", GeM p = {spec.gem_p:g}"),
            ),
            *([("views", f"{spec.augmentation}, summed")] if spec.augmentation else []),
            *(
                [("student of", f"{spec.teacher.get('name')}, {str(spec.teacher.get('id'))[:16]}…")]
                if spec.teacher
                else []
            ),
            ("input", f"uint8 (n, {spec.height}, {spec.width}, 3)"),
            ("output", f"float32 (n, {spec.dim}), unit length"),
            ("weights", f"{stored}, from {spec.checkpoint_sha256[:16]}…"),
            ("verified", f"{parity['photos']} photos against {against}, bound {parity['min_cosine']:g}"),
            ("cosine", f"min {parity['cosine_min']:.8f}, median {parity['cosine_p50']:.8f}"),
            (
                "difference",
                f"at most {parity['max_abs_difference']:.1e}; batch {parity['batch_max_abs_difference']:.1e}",
            ),
        ]
        if "original_cosine_min" in parity:
            rows.append(("rounding", f"cosine with the fp32 weights: min {parity['original_cosine_min']:.8f}"))
        if spec.runtime == "aoti":
            rows.append(
                ("precision", f"{spec.precision}, compiled by torch {spec.tools['torch']}: {parity['runtime']}")
            )
        if spec.accuracy:
            rows += _accuracy_rows(spec)
        point = OperatingPoint.read(spec.operating_point)
        if point:
            rows.append(("threshold", str(point)))
        return "\n".join(f"{key:<11}{value}" for key, value in rows)


def _accuracy_rows(spec: EngineSpec) -> list[tuple[str, str]]:
    found = spec.accuracy
    kinds = [kind for kind in ("int8", "fp8", "bf16", "fp16") if found.get(f"{kind}_share")]
    shares = ", ".join(f"{found[f'{kind}_share']:.0%} in {kind}" for kind in kinds)
    shares = shares.replace(" in ", " of the arithmetic in ", 1)
    return [
        ("precision", f"{spec.precision}: {shares}, the rest in fp32; run by {spec.runtime}"),
        (
            "measured",
            f"{found['queries']} copies by {found['edits']} edits of photos that calibration never saw, against fp32",
        ),
        (
            "cosine",
            f"min {found['cosine_min']:.5f}, 1st percentile {found['cosine_p01']:.5f}, median {found['cosine_p50']:.5f}",
        ),
        ("best match", f"unchanged for {found['top1_agreement']:.2%} of copies"),
        ("µAP", f"{found['micro_ap']:.4f}, in fp32 {found['micro_ap_fp32']:.4f}"),
    ]
