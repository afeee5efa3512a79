"""``python -m isc_fast`` is ``isc-fast``."""

import sys

from .cli.main import main

sys.exit(main())
