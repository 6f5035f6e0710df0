"""`python -m proxy` is `remora`."""

import sys

from .cli import main

sys.exit(main())
