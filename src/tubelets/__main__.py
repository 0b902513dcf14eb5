"""`python -m tubelets`: the command `tubelets`."""

import sys

from tubelets.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
