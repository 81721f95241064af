"""Entry points are read without importlib.metadata, and are what importlib.metadata finds."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.loading.entry_points import claims

GROUPS = ("afk", "afk.models")
POINTS = "[afk]\nsink.mine = mine_sink\n\n[afk.models]\nmine- = provider.mine\n"
ODD_LINES = "# one\nbefore = any\n  [afk]  \n  a=b = c \n#x = y\n\n[other]\nd = e\n[afk]\nf=\n"

Claims = set[tuple[str, str, str, str, str]]


def ours() -> Claims:
    return {
        (group, name, point.value, point.distribution.name, point.distribution.version)
        for (group, name), points in claims(GROUPS).items()
        for point in points
    }


def theirs() -> Claims:
    found = {
        (point.group, point.name, point.value, point.dist.name, point.dist.version)
        for group in GROUPS
        for point in importlib.metadata.entry_points(group=group)
        if point.dist is not None
    }
    return {(group, name, value, dist or "?", version or "") for group, name, value, dist, version in found}


def distribution(
    site: Path,
    folder: str,
    points: str | bytes | None = POINTS,
    *,
    name: str = "my-plugins",
    metadata: str = "METADATA",
) -> Path:
    """Make a folder of metadata in `site`."""
    info = site / folder
    info.mkdir(parents=True)
    if metadata:
        (info / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nName: of the description\n")
    if points is not None:
        (info / "entry_points.txt").write_bytes(points.encode() if isinstance(points, str) else points)
    return info


def one_file(site: Path) -> None:
    (site / "old-1.0.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n")


def shadowed(site: Path) -> None:
    distribution(site / "first", "Same.Name-2.0.dist-info", None, name="Same.Name")
    distribution(site / "second", "same_name-1.0.dist-info", name="same-name")
    sys.path[1:1] = [str(site / "first"), str(site / "second")]


def twice(site: Path) -> None:
    """A distribution that is on the path two times, as an editable one whose folder is named again."""
    distribution(site / "again", "my_plugins-1.0.dist-info")
    sys.path[1:1] = [str(site / "again"), str(site / "again")]


def two_versions(site: Path) -> None:
    for number, folder in enumerate(("new", "old")):
        distribution(site / folder, f"my_plugins-{number}.dist-info", POINTS.replace("mine_sink", f"sink_{folder}"))
    sys.path[1:1] = [str(site / "new"), str(site / "old")]


def egg(site: Path) -> None:
    distribution(site / "my_plugins-1.0-py3.11.egg", "EGG-INFO", metadata="PKG-INFO")
    sys.path.insert(1, str(site / "my_plugins-1.0-py3.11.egg"))


def zipped_egg(site: Path) -> None:
    with zipfile.ZipFile(site / "my_plugins-1.0.egg", "w") as file:
        file.writestr("EGG-INFO/PKG-INFO", "Metadata-Version: 1.0\nName: my-plugins\nVersion: 1.0\n")
        file.writestr("EGG-INFO/entry_points.txt", POINTS)
    sys.path.insert(1, str(site / "my_plugins-1.0.egg"))


def zipped_wheel(site: Path) -> None:
    with zipfile.ZipFile(site / "my_plugins-1.0-py3-none-any.whl", "w") as file:
        file.writestr("my_plugins-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-plugins\nVersion: 1.0\n")
        file.writestr("my_plugins-1.0.dist-info/entry_points.txt", POINTS)
    sys.path.insert(1, str(site / "my_plugins-1.0-py3-none-any.whl"))


def broken_path(site: Path) -> None:
    (site / "broken.zip").write_bytes(b"PK\x03\x04 is not one")
    sys.path[1:1] = [str(site / "broken.zip"), str(site / "nowhere"), str(site / "broken.zip" / "inside")]
    distribution(site, "my_plugins-1.0.dist-info")


def beside_a_package(site: Path) -> None:
    """What `setup.py develop` leaves: an egg-info folder beside the code, its folder added by a .pth file."""
    distribution(site / "source", "my_plugins.egg-info", metadata="PKG-INFO")
    sys.path.append(str(site / "source"))


def linked(site: Path) -> None:
    distribution(site / "elsewhere", "my_plugins-1.0.dist-info")
    (site / "my_plugins-1.0.dist-info").symlink_to(site / "elsewhere" / "my_plugins-1.0.dist-info")


KINDS: dict[str, Callable[[Path], object]] = {
    "a wheel": lambda site: distribution(site, "my_plugins-1.0.dist-info"),
    "an egg-info folder": lambda site: distribution(site, "my_plugins-1.0-py3.11.egg-info", metadata="PKG-INFO"),
    "an egg-info file": one_file,
    "an egg": egg,
    "a zipped egg": zipped_egg,
    "a wheel on the path": zipped_wheel,
    "an egg-info beside its code": beside_a_package,
    "a link": linked,
    "a distribution that hides another of its name": shadowed,
    "a distribution that is there twice": twice,
    "two versions": two_versions,
    "a path with what is no folder": broken_path,
    "odd letters in a name": lambda site: distribution(site, "My.Plug-Ins__x-1.0.dist-info", name="My.Plug-Ins__x"),
    "what pip leaves": lambda site: distribution(site, "~y_plugins-1.0.dist-info"),
    "no metadata besides": lambda site: distribution(site, "entry_points_only-1.0.dist-info", POINTS + "x = y\n"),
    "lines of Windows": lambda site: distribution(site, "my_plugins-1.0.dist-info", POINTS.replace("\n", "\r\n")),
    "comments and spaces": lambda site: distribution(site, "my_plugins-1.0.dist-info", ODD_LINES),
    "an extra": lambda site: distribution(site, "my_plugins-1.0.dist-info", "[afk]\nsink.x = module:object [extra]\n"),
    "a mark at the beginning": lambda site: distribution(site, "my_plugins-1.0.dist-info", "\ufeff" + POINTS),
    "an empty file": lambda site: distribution(site, "my_plugins-1.0.dist-info", ""),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site


def test_what_is_installed_here_is_found() -> None:
    assert ours() == theirs()
    assert len(ours()) > 10


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_distribution_is_found_as_importlib_metadata_finds_it(
    site: Path, make: Callable[[Path], object]
) -> None:
    make(site)
    importlib.invalidate_caches()

    assert ours() == theirs()


@pytest.mark.parametrize(
    "points",
    [b"[afk]\nsink.bad = \xff\xfe\n", b"[afk]\nnot a line of an entry point\n", b"[afk\nsink.bad = bad\n"],
    ids=["not UTF-8", "no equals sign", "an open bracket"],
)
def test_a_damaged_file_hides_no_other_distribution(site: Path, points: bytes) -> None:
    before = ours()
    distribution(site, "bad-1.0.dist-info", points, name="bad")
    distribution(site, "good-1.0.dist-info", name="good")

    found = ours()

    assert found - before == {
        ("afk", "sink.mine", "mine_sink", "good", "1.0"),
        ("afk.models", "mine-", "provider.mine", "good", "1.0"),
    }


def test_a_file_that_cannot_be_read_hides_no_other_distribution(site: Path) -> None:
    info = distribution(site, "odd-1.0.dist-info", None, name="odd")
    (info / "entry_points.txt").mkdir()
    distribution(site, "good-1.0.dist-info", name="good")

    assert "good" in {found[3] for found in ours()}
    assert ours() == theirs()


def test_a_distribution_without_metadata_is_named_by_its_folder(site: Path) -> None:
    distribution(site, "my_plugins-2.5.dist-info", metadata="")

    assert ("afk", "sink.mine", "mine_sink", "my_plugins", "2.5") in ours()


def test_two_distributions_that_claim_a_name_are_both_returned(site: Path) -> None:
    distribution(site, "one-1.0.dist-info", name="one")
    distribution(site, "two-1.0.dist-info", name="two")

    assert {point.distribution.name for point in claims(GROUPS)["afk", "sink.mine"]} == {"one", "two"}


def test_what_the_finder_of_a_tool_knows_is_found(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(site / "hidden", "my_plugins-1.0.dist-info")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            return None

        @staticmethod
        def find_distributions(
            context: importlib.metadata.DistributionFinder.Context,
        ) -> Iterator[importlib.metadata.Distribution]:
            yield importlib.metadata.PathDistribution(site / "hidden" / "my_plugins-1.0.dist-info")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])

    assert ("afk", "sink.mine", "mine_sink", "my-plugins", "1.0") in ours()
    assert ours() == theirs()
