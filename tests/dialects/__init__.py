"""The dialects of the servers that people use, played by a scripted server: see `python -m tests.dialects`."""
