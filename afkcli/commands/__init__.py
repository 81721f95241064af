"""One module a command; `command` is the click command that `afkcli.cli` loads by the module's name."""
