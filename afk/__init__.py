"""The import names of the seed page: `afk.agents` and `afk.core` re-export what `afkcli` has."""
