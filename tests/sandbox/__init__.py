"""What the sandbox of commands holds, by attempts of real commands in the installed `afk`."""
