"""The command `darkroom`, as an installer writes it for the console. Run as a script, by its path."""

import sys

from darkroom.cli.command_line import main

sys.exit(main())
