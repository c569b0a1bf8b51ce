"""`python -m kolors_lab` is the `kolors-lab` command, also where its script is not on the PATH."""

import sys

from kolors_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
