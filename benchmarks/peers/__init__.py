"""The programs of others that afk is compared with: how each is installed, and how it is pointed at our server."""
