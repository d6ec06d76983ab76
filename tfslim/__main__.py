"""`python -m tfslim` is `tfslim`."""

import sys

from tfslim.commands import main

if __name__ == "__main__":
    sys.exit(main())
