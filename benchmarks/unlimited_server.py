"""The command `darkroom` with ZSky alone, as if it had no limits: every due question is asked."""

import sys
from dataclasses import replace

import darkroom_tools
from benchmarks.engine import UNLIMITED
from darkroom.cli.command_line import main

darkroom_tools.CATALOGUE = replace(darkroom_tools.CATALOGUE, providers=(UNLIMITED,))
sys.exit(main())
