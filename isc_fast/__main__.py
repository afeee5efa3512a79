"""``python -m isc_fast`` is ``isc-fast``."""

import sys

from .cli.parser import main

sys.exit(main())
