"""`python -m tfslim.analysis` is `tfslim.analyze`."""

import sys

from tfslim.analyze import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
