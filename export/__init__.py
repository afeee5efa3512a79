"""Turning a checkpoint into an engine file that is verified before anybody can see it; needs torch, timm and onnx."""

from __future__ import annotations

from .report import ExportReport
from .run import export_engine

__all__ = ["ExportReport", "export_engine"]
