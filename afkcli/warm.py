"""The start of the warm worker: a script, so that its interpreter has the flags that the one of a command has."""

import sys

if __name__ == "__main__":
    del sys.path[0]  # Python has put the folder of this file there
    from afkcli.entry import worker

    worker()
