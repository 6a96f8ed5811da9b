"""``python -m mmattn`` is the command ``mmattn``."""
import sys

from mmattn.cli import main

if __name__ == '__main__':
    sys.exit(main())
