"""`python -m afkcli` is `afk`; the working directory, which Python puts on the path for -m, is taken off it."""

import sys

if sys.path and sys.path[0] in ("", __import__("os").getcwd()):
    del sys.path[0]

from afkcli.entry import cold

if __name__ == "__main__":
    cold()
