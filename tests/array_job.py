"""A program that extracts with the fake engine to a folder, as one job of several. The tests kill it at random moments.

    python array_job.py PHOTOS OUT/ INDEX COUNT PAUSE_S [CALL NUMBER]

Without an INDEX (``-``) it does everything. It pauses before each call of the engine. With a CALL of the system, such as
``link``, it kills itself with SIGKILL before that call is made for the NUMBER-th time, or ends well if it is not made so often.
"""

import os
import sys
import time
from typing import Any

from fakes import FakeEngine
from killed import die_at

from isc_fast.errors import IscFastError
from isc_fast.extraction.pipeline import extract
from isc_fast.extraction.share import Share


class Slow(FakeEngine):
    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s

    def run(self, pixels: Any) -> Any:
        time.sleep(self.pause_s)
        return super().run(pixels)


def main() -> None:
    photos, output, index, count, pause_s = sys.argv[1:6]
    if len(sys.argv) > 6:
        name, number = sys.argv[6], int(sys.argv[7])
        setattr(os, name, die_at(number, getattr(os, name)))
    share = None if index == "-" else Share(int(index), int(count))
    try:
        made = extract(photos, Slow(float(pause_s)), output, batch_size=2, shard_size=4, share=share)
    except IscFastError as error:
        sys.exit(f"error: {error}")
    print(f"computed {made.computed} complete {made.complete}")


if __name__ == "__main__":
    main()
