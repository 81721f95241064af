"""The folders of afk are those that platformdirs names, whether or not it is asked."""

from __future__ import annotations

import platformdirs
import pytest

from afkcli.core.contract.errors import ConfigError
from afkcli.host.paths import config_dir, data_dir, state_dir

VARIABLES = ("AFK_HOME", "HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "a home": {"HOME": "/home/one"},
    "a home with a slash": {"HOME": "/home/one/"},
    "the root as home": {"HOME": "/"},
    "no home": {},
    "an empty home": {"HOME": ""},
    "a relative home": {"HOME": "one"},
    "folders of one's own": {name: f"/xdg/{name}" for name in VARIABLES[2:]} | {"HOME": "/home/one"},
    "folders and no home": {name: f"/xdg/{name}" for name in VARIABLES[2:]},
    "relative folders": dict.fromkeys(VARIABLES[2:], "xdg") | {"HOME": "/home/one"},
    "empty folders": dict.fromkeys(VARIABLES[2:], "") | {"HOME": "/home/one"},
    "odd letters": {"HOME": "/home/ö ~", "XDG_DATA_HOME": "/x//y/../z/"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_the_folders_are_those_of_the_platform(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    wanted = [
        platformdirs.user_data_path("afk", appauthor=False),
        platformdirs.user_state_path("afk", appauthor=False),
        platformdirs.user_config_path("afk", appauthor=False),
    ]

    assert [data_dir(), state_dir(), config_dir()] == wanted


def test_afk_home_moves_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFK_HOME", "/elsewhere")

    assert [str(folder()) for folder in (data_dir, state_dir, config_dir)] == [
        "/elsewhere/data",
        "/elsewhere/state",
        "/elsewhere/config",
    ]


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def no_home(*arguments: object, **more: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(platformdirs, "user_data_path", no_home)
    with pytest.raises(ConfigError, match="set AFK_HOME"):
        data_dir()
