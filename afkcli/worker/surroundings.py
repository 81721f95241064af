"""Whether a process that outlives its command is welcome: not in a job of CI, a service, or what cron has started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from afkcli.worker import place
from afkcli.worker.caller import stat_of

_TIMERS = ("cron", "crond", "anacron", "atd", "fcron", "dcron", "bcron", "systemd-cron")
_JOBS = (
    ("JENKINS_URL", "BUILD_ID"),
    ("TEAMCITY_VERSION",),
    ("TF_BUILD",),
    ("CODEBUILD_BUILD_ID",),
    ("bamboo_buildKey",),
    ("GO_PIPELINE_NAME",),
)
"""What systems of CI set that do not set `CI`: Jenkins, TeamCity, Azure Pipelines, AWS CodeBuild, Bamboo, GoCD."""
_MAX_PARENTS = 64
_SESSIONS = "/run/systemd/sessions"


def may_outlive(environment: Mapping[str, str]) -> bool:
    """Return whether a worker may be started from here; `AFK_WORKER=on` says yes."""
    if environment.get(place.SWITCH, "").lower() in place.ON:
        return True
    if environment.get("CI", "").lower() not in ("", "0", "false") or _is_job(environment):
        return False
    return not is_service(_cgroup()) and not any(name in _TIMERS for name in _names_of_parents())


def _is_job(environment: Mapping[str, str]) -> bool:
    return any(all(map(environment.get, names)) for names in _JOBS)


def is_service(cgroup: str) -> bool:
    """Return whether the cgroup of a process is that of a service, of a job of cron, or of another session in the
    background.

    Args:
        cgroup: its path in the hierarchy of systemd.
    """
    unit = cgroup.rstrip("/").rpartition("/")[2]
    if unit.endswith((".service", ".mount", ".socket")) or any(name in cgroup for name in ("/cron.", "/crond.")):
        return True
    return unit.startswith("session-") and _is_background(unit.removeprefix("session-").removesuffix(".scope"))


def _is_background(session: str) -> bool:
    """Return whether a session of logind is one that no person has opened (sd-login(3))."""
    try:
        with open(f"{_SESSIONS}/{os.path.basename(session)}", encoding="utf-8") as file:  # noqa: PTH119, PTH123
            lines = dict(line.strip().split("=", 1) for line in file if "=" in line)
    except OSError:
        return False
    return lines.get("CLASS", "").startswith("background") or lines.get("SERVICE", "") in _TIMERS


def _cgroup() -> str:
    """Return the path of this process's cgroup, in the hierarchy of systemd where there are several."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return "/"
    paths = {line[1]: line[2] for line in lines if len(line) == 3}
    return paths.get("name=systemd", paths.get("", "/"))


def _names_of_parents() -> Iterator[str]:
    pid = os.getppid()
    for _ in range(_MAX_PARENTS):
        fields = stat_of(pid)
        if pid <= 0 or len(fields) < 2:
            return
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                yield file.read().strip()
        except OSError:
            return
        pid = int(fields[1])
