"""Config files: reading, checking, merging, and trust."""
