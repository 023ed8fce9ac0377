"""`python -m quasistatic`: the command line."""

import sys

from quasistatic.cli.main import main

sys.exit(main())
