"""Moments as values of options: a day, a day and a time, or how long ago.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_FIRST_YEAR = 1970
_DAYS = {"today": 0, "yesterday": 1}


class Moment(click.ParamType):  # type: ignore[type-arg]  # it takes no argument in the lowest click
    """A moment as RFC 3339 in UTC, so that it can be compared with the times of records as a text.

    It is written as `2026-11-27`, `2026-11-27 14:30`, in RFC 3339, as `today` or `yesterday`, or as how long ago:
    `90s`, `5m`, `12h`, `3d`, `2w`, `2 days ago`. A time without a zone is that of the user's place.
    """

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        moment = moment_of(str(value), datetime.now().astimezone())
        if moment is None or moment.year < _FIRST_YEAR:
            what = "a day (2026-11-27, yesterday), a day and a time, or how long ago (5m, 12h, 3d, 2w)"
            self.fail(f"must be {what} (got {value!r})", param, ctx)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def moment_of(text: str, now: datetime) -> datetime | None:
    """Return the moment that a text names, in UTC, or None. `now` has the zone of the user's place."""
    from afkcli.core.contract.durations import seconds_of  # not at the top: a list by no time does not need it

    text = text.strip()
    word = text.lower()
    ago = None if text[-1:].isdecimal() else seconds_of(word.removesuffix(" ago"))
    try:
        if word in _DAYS:
            said = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=_DAYS[word])
        elif ago is not None:
            said = now - timedelta(seconds=ago)
        else:
            said = datetime.fromisoformat(text)
        return said.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or one before the first year
        return None


def since_option(what: str) -> Callable[[F], F]:
    help_ = f"Only {what} from then on: 2026-11-27, 12h, 3d."
    return click.option("--since", type=Moment(), metavar="WHEN", help=help_)


def until_option(what: str) -> Callable[[F], F]:
    return click.option("--until", type=Moment(), metavar="WHEN", help=f"Only {what} before then.")
