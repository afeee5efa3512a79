"""Turning a checkpoint into an engine file that is verified before anybody can see it; needs torch, timm and onnx."""

from __future__ import annotations

from .run import ExportReport, export_engine

__all__ = ["ExportReport", "export_engine"]
