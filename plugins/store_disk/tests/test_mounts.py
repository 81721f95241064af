"""A network file system is found by the longest mount point, and refused with the next step."""

from __future__ import annotations

from pathlib import Path

import pytest
from afk_store_disk import mounts
from afk_store_disk.mounts import filesystem_type
from afk_store_disk.store import DiskStore

from afkcli.plugin import StoreError

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / /home rw,relatime shared:7 master:2 - nfs4 server:/home rw,vers=4.2
31 30 254:1 / /home/me/local\\040disk rw - xfs /dev/vdb rw
32 27 0:50 / /mnt/share rw - cifs //server/share rw
33 27 0:51 / /mnt/ssh rw - fuse.sshfs me@server: rw
34 27 0:52 / /mnt/twice rw - nfs server:/a rw
35 27 254:2 / /mnt/twice rw - ext4 /dev/vdc rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/afk", "ext4"),
        ("/home/me/.local/share/afk", "nfs4"),
        ("/home", "nfs4"),
        ("/homeless", "ext4"),
        ("/home/me/local disk/afk", "xfs"),
        ("/mnt/share/afk", "cifs"),
        ("/mnt/ssh/a/b", "fuse.sshfs"),
        ("/mnt/twice/afk", "ext4"),
        ("/", "ext4"),
    ],
)
def test_the_longest_mount_point_decides(path: str, kind: str) -> None:
    assert filesystem_type(path, MOUNTINFO) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:40 / {tmp_path.resolve()} rw - {kind} x rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(mountinfo))
    with pytest.raises(StoreError, match=rf"network file system \({kind}\).*AFK_HOME") as caught:
        DiskStore(folder)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_where_nothing_tells_it_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "missing"))
    DiskStore(folder).close()
