"""Plugins: found without being imported, loaded one by one, and whatever is wrong with one named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.errors import PluginError, UnknownNameError
from afkcli.host.secrets import Secrets
from afkcli.loading.discovery import Plugins, discover, foreign_afk_package
from tests.commands.conftest import add_distribution

SINK = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from afkcli import hookimpl
if TYPE_CHECKING:
    from afkcli.hookspecs import Sink
AFK_HOOKS = 1

@dataclass
class Settings:
    path: str = "default"

class Made:
    name = "made"
    def __init__(self, settings): self.settings = settings
    def emit(self, event): ...
    def close(self): ...

@hookimpl
def afk_sink(settings: Settings) -> Sink:
    return Made(settings)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, for distributions."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    return site


def module_name(tmp_path: Path) -> str:
    """Return a name that no other test has imported."""
    return f"plugin_{tmp_path.name}"


def make(plugins: Plugins, name: str, kind: str = "sink", **table: Any) -> Any:
    return plugins.make(kind, name, table, Secrets())


class TestDiscovery:
    def test_imports_nothing_and_reads_all(self, site: Path) -> None:
        add_distribution(
            site,
            "my-plugins",
            {
                "afk": {"sink.mine": "mine_sink", "provider.mine": "mine_provider"},
                "afk.models": {"mine-": "provider.mine"},
            },
            mine_sink="raise SystemExit",
        )
        plugins = discover()
        assert plugins.found["sink.mine"].distribution == "my-plugins"
        assert plugins.provider_of_prefix("mine-large") == "mine"
        assert "mine_sink" not in sys.modules

    def test_two_distributions_with_one_name_are_both_refused_and_named(self, site: Path) -> None:
        add_distribution(site, "one", {"afk": {"sink.same": "a"}})
        add_distribution(site, "two", {"afk": {"sink.same": "b"}})
        plugins = discover()
        assert "sink.same" not in plugins.found
        with pytest.raises(PluginError, match="claimed by one and two; uninstall one of them"):
            make(plugins, "same")
        assert make(plugins, "jsonl").name == "jsonl"  # the others are used

    def test_two_distributions_with_one_prefix_are_both_refused_and_named(self, site: Path) -> None:
        add_distribution(site, "one", {"afk.models": {"x-": "provider.one", "x-long-": "provider.one"}})
        add_distribution(site, "two", {"afk.models": {"x-": "provider.two"}})
        plugins = discover()
        with pytest.raises(UnknownNameError, match="model prefix 'x-' is claimed by one and two"):
            plugins.provider_of_prefix("x-model")
        assert plugins.provider_of_prefix("x-long-model") == "one"  # the longest prefix decides
        assert plugins.provider_of_prefix("y") is None

    def test_names_a_foreign_package_afk(self, site: Path) -> None:
        assert foreign_afk_package() is None
        add_distribution(site, "other-afk", {}, afk="")
        assert foreign_afk_package() == "other-afk"


class TestLoading:
    def test_fills_the_settings_and_returns_the_object_of_the_hook(self, site: Path, tmp_path: Path) -> None:
        module = module_name(tmp_path)
        add_distribution(site, "good", {"afk": {"sink.good": module}}, **{module: SINK})
        assert make(discover(), "good", path="x").settings.path == "x"

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
            ("import sys; sys.exit(3)", "SystemExit: 3"),
            ("raise BaseException('odd')", "BaseException: odd"),
            ("def (:", "SyntaxError"),
            ("", "has no AFK_HOOKS"),
            ("AFK_HOOKS = True", "has no AFK_HOOKS"),
            ("AFK_HOOKS = 0", "has no AFK_HOOKS"),
            ("AFK_HOOKS = 2", "needs hook version 2, this afk has 1; upgrade afkcli"),
            ("AFK_HOOKS = 1", "has no @hookimpl afk_sink"),
            ("AFK_HOOKS = 1\ndef afk_sink(settings): return 1", "has no @hookimpl afk_sink"),
            (
                "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_sink(settings, more): ...",
                "PluginValidationError",
            ),
            (
                "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_sink(settings): return None",
                "its hook returned None",
            ),
            (
                "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_sink(settings): raise SystemExit(1)",
                "SystemExit: 1",
            ),
            (
                "from afkcli import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_sink(settings): 1 / 0",
                "ZeroDivisionError",
            ),
        ],
    )
    def test_an_error_is_named_each_time_the_plugin_is_loaded(
        self, site: Path, tmp_path: Path, source: str, said: str
    ) -> None:
        module = f"{module_name(tmp_path)}_{abs(hash(source))}"
        add_distribution(site, "bad", {"afk": {"sink.bad": module}}, **{module: source})
        plugins = discover()
        for _ in range(2):
            with pytest.raises(PluginError) as raised:
                make(plugins, "bad")
            assert said in str(raised.value)
        assert make(plugins, "jsonl").name == "jsonl"

    def test_output_of_a_plugin_does_not_go_to_stdout(
        self, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        module = module_name(tmp_path)
        source = f"{SINK}\nprint('at import')\n"
        add_distribution(site, "loud", {"afk": {"sink.loud": module}}, **{module: source})
        make(discover(), "loud")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "at import" in captured.err

    def test_an_entry_point_that_names_an_object_is_refused(self, site: Path) -> None:
        add_distribution(site, "odd", {"afk": {"sink.odd": "module:thing"}})
        with pytest.raises(PluginError, match="not the name of a module"):
            make(discover(), "odd")

    @pytest.mark.parametrize(
        ("kind", "name", "said"),
        [
            ("provider", "anthropic", "afk plugins install afk-provider-anthropic"),
            ("sink", "nope", "there is no sink 'nope' (installed: jsonl, otel)"),
            ("tools", "nope", "there is no tool plugin 'nope' (installed: "),
        ],
    )
    def test_a_missing_plugin_says_how_to_install_it(self, kind: str, name: str, said: str) -> None:
        plugins = discover()
        plugins.found.pop(f"{kind}.{name}", None)
        with pytest.raises(UnknownNameError) as raised:
            plugins.load(kind, name)
        assert said in str(raised.value)


class TestFiles:
    def file(self, path: Path, source: str = SINK) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    def test_one_file_with_postponed_annotations_is_enough(self, tmp_path: Path) -> None:
        plugins = Plugins()
        assert plugins.add_file(self.file(tmp_path / "mine.py")) == ["sink.mine"]
        assert make(plugins, "mine", path="y").settings.path == "y"

    def test_two_files_of_one_name_and_two_of_one_stem(self, tmp_path: Path) -> None:
        plugins = Plugins()
        plugins.add_file(self.file(tmp_path / "a" / "mine.py"))
        plugins.add_file(tmp_path / "a" / "mine.py")  # the same file twice is one
        with pytest.raises(PluginError, match=r"both offer sink.mine; leave one out"):
            plugins.add_file(self.file(tmp_path / "b" / "mine.py"))
        other = self.file(tmp_path / "c" / "mine.py", f"{SINK}AFK_NAME = 'other'\n")
        assert plugins.add_file(other) == ["sink.other"]
        assert make(plugins, "mine").settings is not make(plugins, "other").settings

    def test_a_file_goes_before_an_installed_plugin_and_ends_a_conflict(self, site: Path, tmp_path: Path) -> None:
        add_distribution(site, "one", {"afk": {"sink.same": "a"}})
        add_distribution(site, "two", {"afk": {"sink.same": "b"}})
        plugins = discover()
        plugins.add_file(self.file(tmp_path / "same.py"))
        assert make(plugins, "same").settings.path == "default"

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("raise SystemExit(1)", "SystemExit"),
            ("1 / 0", "ZeroDivisionError"),
            ("AFK_HOOKS = 1", "has no hook of afk"),
            ("AFK_HOOKS = 9", "needs hook version 9"),
        ],
    )
    def test_a_file_without_a_hook_is_named(self, tmp_path: Path, source: str, said: str) -> None:
        with pytest.raises(PluginError, match=said):
            Plugins().add_file(self.file(tmp_path / "bad.py", source))

    def test_a_missing_file_and_a_file_that_is_not_python_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="there is no plugin file"):
            Plugins().add_file(tmp_path / "none.py")
        with pytest.raises(PluginError, match="not a Python file"):
            Plugins().add_file(self.file(tmp_path / "text.txt"))
