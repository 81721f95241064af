"""What happens: the loop, and the parts of one run."""
