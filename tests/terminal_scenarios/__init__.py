"""What `python -m tests.terminal_pictures` leaves pictures of: each module adds scenarios by its decorator."""
