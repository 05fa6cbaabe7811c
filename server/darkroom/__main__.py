"""Run the command: ``python -m darkroom``."""

import sys

from darkroom.cli import main

sys.exit(main())
