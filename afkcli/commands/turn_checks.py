"""Which options of a turn go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afkcli.core.contract.errors import UsageError

if TYPE_CHECKING:
    from afkcli.commands.turn_request import TurnRequest


def check_sources(request: TurnRequest) -> None:
    """Refuse two threads, two questions, two uses of stdin, and two of `--record`, `--replay` and `--dry-run`."""
    if request.is_taped:
        _check_taped(request)
    if request.variables and request.prompt is None:
        raise UsageError("--var fills a variable of a prompt; name the prompt with --prompt NAME")
    if request.retry or request.edit:
        _check_asked_again(request)
    if request.continue_ and request.thread is not None:
        raise UsageError("--continue and --thread both name a thread; use one of them")
    if "-" not in request.attach:
        return
    if not request.words or request.words == ("-",):
        raise UsageError("`--attach -` reads stdin, so give the message as an argument")
    if request.approvals == "stdin":
        raise UsageError("`--attach -` and `--approvals stdin` both read stdin; use one of them")


def _check_asked_again(request: TurnRequest) -> None:
    option = "--edit" if request.edit else "--retry"
    if request.retry and request.edit:
        raise UsageError("--retry asks the last question as it is, --edit lets you change it; use one of them")
    if request.words:
        raise UsageError(f"{option} asks the last question of the thread again; leave the message out")
    if request.attach:
        raise UsageError(f"{option} keeps the attachments of the question; leave --attach out")
    if not request.memory:
        raise UsageError(f"{option} needs memory, which --no-memory turns off; use one of them")
    if request.thread is None and not request.continue_:
        raise UsageError(f"{option} needs a thread; name it with --thread NAME, or use --continue")


def check_output(request: TurnRequest) -> None:
    if request.json and request.final:
        raise UsageError("--json and --final are different output formats; use one of them")
    if request.approvals == "stdin" and not request.json:
        raise UsageError("--approvals stdin needs --json, which shows the requests; add --json")


def _check_taped(request: TurnRequest) -> None:
    given = (
        ("--record", request.record is not None),
        ("--replay", request.replay is not None),
        ("--dry-run", request.dry_run),
    )
    named = [option for option, is_given in given if is_given]
    if len(named) > 1:
        raise UsageError(f"{named[0]} and {named[1]} exclude each other; use one of them")
    for option, is_given in (("--json", request.json), ("--final", request.final)):
        if request.dry_run and is_given:
            raise UsageError(f"--dry-run writes the request, not events or an answer; leave {option} out")
