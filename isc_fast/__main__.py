"""``python -m isc_fast`` is ``isc-fast``."""

import sys

from .cli import main

sys.exit(main())
