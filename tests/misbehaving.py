"""Functions that a trial calls in another process. They crash, hang, fail, or print odd things."""

from __future__ import annotations

import ctypes
import os
import sys
import time

from isc_fast.errors import require


def segfault() -> str:
    return str(ctypes.string_at(0))


def abort() -> str:
    os.abort()


def abort_with_a_reason() -> str:
    os.write(2, b"\nno kernel image is available\n")
    os.abort()


def hang() -> str:
    time.sleep(600)
    return "late"


def noise_first() -> str:
    print("noise")
    return "x 1.0, done"


def import_nothing() -> str:
    import nothing_like_this

    return str(nothing_like_this)


def require_nothing() -> str:
    return str(require("none_such", "cpu"))


def broken_import() -> str:
    raise ImportError("libcudnn.so.9: cannot open")


def too_old() -> str:
    raise SystemExit("too old; run: pip install new")


def exit_3() -> str:
    sys.exit(3)


def odd_bytes() -> str:
    sys.stdout.buffer.write(b"\xff\n")
    return ""


def say(*words: str) -> str:
    return " ".join(words)


def import_faiss() -> str:
    import faiss

    return str(faiss.__version__)
