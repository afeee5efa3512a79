"""Libraries that would report on their users are told not to, before any of them is loaded.

* ONNX Runtime from 1.29 on writes a device id and a file of events into the user's cache folder as soon as it is imported, and
  looks for a host to send them to.
* OpenVINO brings the package ``openvino_telemetry``. Importing openvino makes it write an id and counts into the folder
  ``~/intel`` and send an event to Google Analytics. OpenVINO does without that package where it cannot be imported.
* huggingface_hub, which timm uses, names its user's programs where something is downloaded.
* Ray reports how it is used, from the head of a cluster, every hour.

Every process of isc-fast, workers and trials too, imports the package first, so this one call in the package's
``__init__`` is enough for all of them.
"""

from __future__ import annotations

import os
import sys

_VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
_REPORTERS = ("openvino_telemetry",)


def silence() -> None:
    """Turn off what libraries would report in this process.

    What was imported before isc-fast has reported that import already: ONNX Runtime is told to stop, and OpenVINO reports
    nothing else unless a model of another format is converted.
    """
    os.environ.update(_VARIABLES)
    for package in _REPORTERS:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # how Python writes "not to be imported"
    stop = getattr(sys.modules.get("onnxruntime"), "disable_telemetry_events", None)
    if stop is not None:
        stop()
