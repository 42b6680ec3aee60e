"""``python -m pyro_metacadi`` is the ``metacadi`` command."""

import sys

from pyro_metacadi.cli import main

if __name__ == "__main__":
    sys.exit(main())
