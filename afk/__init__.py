"""The import names of the seed page."""
