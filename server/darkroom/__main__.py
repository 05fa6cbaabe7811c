"""Run the command: ``python -m darkroom``."""

import sys

from darkroom.cli.command_line import main

sys.exit(main())
