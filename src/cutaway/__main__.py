"""`python -m cutaway` is the `cutaway` command."""

import sys

from cutaway.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
