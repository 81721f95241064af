"""The lists of plugins in pyproject.toml follow the folders in plugins/."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from afkcli.loading.discovery import KNOWN
from tests.plugin_lists import REPOSITORY, Plugin, difference, read_plugins, written

TEXT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PLUGINS = read_plugins(REPOSITORY / "plugins")


def plugin_folder(folder: Path, name: str, own: str = "") -> None:
    """Write the pyproject.toml of a plugin with this table `[tool.afk]`."""
    (folder / name).mkdir(parents=True)
    distribution = f"afk-{name.replace('_', '-')}"
    (folder / name / "pyproject.toml").write_text(f'[project]\nname = "{distribution}"\n{own}')


def test_the_lists_are_those_of_the_folders() -> None:
    assert difference(TEXT, PLUGINS) == "", "run: uv run python -m tests.plugin_lists --write"


def test_a_new_folder_is_in_every_list(tmp_path: Path) -> None:
    plugin_folder(tmp_path, "sink_new")
    (new,) = read_plugins(tmp_path)
    table = tomllib.loads(written(TEXT, [*PLUGINS, new]))
    contracts = {item["name"]: item for item in table["tool"]["importlinter"]["contracts"]}

    assert table["project"]["optional-dependencies"]["new"] == ["afk-sink-new"]
    assert ",new]" in table["project"]["optional-dependencies"]["all"][0]
    assert table["tool"]["uv"]["sources"]["afk-sink-new"] == {"workspace": True}
    assert "afk_sink_new" in table["tool"]["mypy"]["packages"]
    assert "afk_sink_new" in table["tool"]["importlinter"]["root_packages"]
    assert "afk_sink_new" in contracts["a plugin never imports another plugin"]["modules"]
    assert "afk_sink_new" in contracts["a plugin imports only the public modules of afkcli"]["source_modules"]
    assert "afk_sink_new" in contracts["afkcli imports no plugin and nothing for tests"]["forbidden_modules"]


def test_a_plugin_may_need_an_environment_of_its_own(tmp_path: Path) -> None:
    own = '[tool.afk]\nnot-in-all = "It needs a server."\nworkspace = false\nextra-needs = ["afkcli[prices]"]\n'
    plugin_folder(tmp_path, "provider_far", own)
    text = written(TEXT, [*PLUGINS, *read_plugins(tmp_path)])
    table = tomllib.loads(text)

    assert '# Not in `all`: It needs a server.\nfar = ["afk-provider-far", "afkcli[prices]"]\n' in text
    assert "far" not in table["project"]["optional-dependencies"]["all"][0]
    assert table["tool"]["uv"]["sources"]["afk-provider-far"] == {"path": "plugins/provider_far", "editable": True}
    assert "plugins/provider_far" in table["tool"]["uv"]["workspace"]["exclude"]
    assert "afk_provider_far" not in table["tool"]["mypy"]["packages"]
    assert "afk_provider_far" not in table["tool"]["importlinter"]["root_packages"]


def test_a_folder_that_is_gone_is_in_no_list() -> None:
    text = written(TEXT, [plugin for plugin in PLUGINS if plugin.folder != "sink_jsonl"])

    assert "jsonl" not in text
    assert difference(text, PLUGINS) != ""


@pytest.mark.parametrize("plugin", PLUGINS, ids=[plugin.folder for plugin in PLUGINS])
def test_afk_names_the_distribution_of_a_plugin_that_is_missing(plugin: Plugin) -> None:
    assert KNOWN[plugin.folder.replace("_", ".", 1)].distribution == plugin.distribution
