"""Turning a checkpoint into an engine file that is verified before anybody can see it; needs torch, timm and onnx."""

from __future__ import annotations

from .exporter import export_engine
from .report import ExportReport

__all__ = ["ExportReport", "export_engine"]
