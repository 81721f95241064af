"""Puts the parts together: config, plugins, prices, and the Runner that users meet."""
