"""The public API of a plugin author: `afkcli.plugin`."""

import subprocess
import sys

import pytest

import afkcli.plugin


def test_every_public_name_can_be_imported() -> None:
    for name in afkcli.plugin.__all__:
        assert getattr(afkcli.plugin, name) is not None


def test_all_lists_exactly_the_names_of_the_table() -> None:
    assert sorted(afkcli.plugin.__all__) == sorted(afkcli.plugin._HOMES)
    assert set(afkcli.plugin.__all__) <= set(dir(afkcli.plugin))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        afkcli.plugin.Nonsense  # noqa: B018


def test_importing_the_module_imports_nothing_else_of_ours() -> None:
    code = "import sys, afkcli.plugin; print(sorted(m for m in sys.modules if m.startswith('afkcli')))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "['afkcli', 'afkcli.plugin']"
