"""What providers do with a server that fails: `python -m tests.provider_faults` prints the table."""
