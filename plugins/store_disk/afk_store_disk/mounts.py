"""Finds out whether a folder is on a network file system, where SQLite's locks and its shared memory do not work."""

from __future__ import annotations

import os
from pathlib import Path

MOUNTINFO = "/proc/self/mountinfo"

NETWORK_TYPES = frozenset(
    """9p acfs afs beegfs ceph cifs coda gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs prl_fs pvfs2 smb
    smb2 smb3 smbfs vboxsf vmhgfs fuse.afp fuse.beegfs fuse.ceph fuse.ceph-fuse fuse.cephfs fuse.davfs fuse.davfs2
    fuse.dbxfs fuse.gcsfuse fuse.glusterfs fuse.google-drive-ocamlfuse fuse.gvfsd-fuse fuse.juicefs fuse.lustre
    fuse.mount.s3fs fuse.nfs fuse.rclone fuse.s3fs fuse.seaweedfs fuse.smbnetfs fuse.sshfs fuse.vmhgfs-fuse
    fuse.weed""".split()  # noqa: SIM905 - a paragraph reads better than fifty quoted lines
)


def network_type(folder: Path) -> str | None:
    """Return the type of the network file system that `folder` (or its nearest existing parent) is on, or None.

    Linux tells (proc(5), /proc/PID/mountinfo); where nothing tells, the answer is None.
    """
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            kind = filesystem_type(os.path.realpath(folder), file.read())
    except OSError:
        return None
    return kind if kind in NETWORK_TYPES else None


def filesystem_type(path: str, mountinfo: str) -> str | None:
    """Return the type of the file system that the absolute `path` is on, by the text of a mountinfo file.

    The longest mount point that leads to `path` decides, and of two on one point the later, which hides the earlier.
    """
    longest, kind = -1, None
    for line in mountinfo.splitlines():
        before, separator, behind = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        if len(point) >= longest and _leads_to(point, path):
            longest, kind = len(point), behind.split(" ")[0]
    return kind


def _leads_to(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
