"""Packages as authors outside this repository wrote them for version 0.1, with the module names of that version.

Each module here is one package; `test_old_plugins.py` installs them. Their imports must not be changed.
"""
