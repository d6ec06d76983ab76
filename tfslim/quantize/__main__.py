"""`python -m tfslim.quantize`; `command` says what it does."""

import sys

from tfslim.quantize.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
