"""What the slash commands of the chat do: each is a command of afk on the thread of the chat, or one of its turns.

Since: 0.2.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from afkcli.chat.loop import Reply
from afkcli.chat.slash import BY_NAME, KEYS, Typed, help_rows, unknown_line
from afkcli.commands.question import Question
from afkcli.core.contract.errors import EXIT_OK, EXIT_USAGE, AfkError, UnknownNameError, UsageError
from afkcli.core.contract.structs import replace

if TYPE_CHECKING:
    from afkcli.commands.chat_talk import ChatTalk

Work = Coroutine[Any, Any, Reply] | Reply
_NO_QUESTION = "this conversation has no question yet"


def carry_out(talk: ChatTalk, command: Typed) -> Work:
    """Carry out a slash command of `afkcli.chat.slash.COMMANDS`; an error is one line."""
    try:
        return _COMMANDS[command.command](talk, command)
    except AfkError as error:
        return Reply(talk.said(error))


def _help(talk: ChatTalk, command: Typed) -> Work:
    names = [word.lstrip("/").lower() for word in command.words]
    for name in names:
        if name not in BY_NAME:
            talk.messages.error(unknown_line(name))
            return Reply(EXIT_USAGE)
    columns = talk.invocation.columns()
    talk.messages.raw("\n".join(_rows(help_rows(names), columns)) + "\n")
    if not names:
        talk.messages.raw("\n" + "\n".join(_rows(KEYS, columns)) + "\n")
    return Reply()


def _rows(rows: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """Return two columns as lines, the second one wrapped; on a narrow terminal it is below the first one."""
    first = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, text in rows:
        if columns < first + 40:
            lines += [name, *(f"    {line}" for line in textwrap.wrap(text, max(columns - 5, 10)))]
        else:
            begin, *more = textwrap.wrap(text, columns - first - 1)
            lines += [f"{name:<{first}}{begin}", *(f"{'':<{first}}{line}" for line in more)]
    return lines


def _model(talk: ChatTalk, command: Typed) -> Work:
    if not command.argument:
        return _says(talk, f"the model is {talk.status().model or 'not known yet'}")

    async def use() -> Reply:
        from afkcli.wiring.models import full_model_name

        setup = (await talk.session()).setup
        name = full_model_name(setup, command.argument)
        provider = name.partition("/")[0]
        if f"provider.{provider}" not in setup.plugins.found:
            from afkcli.loading.discovery import missing_line

            raise UnknownNameError(missing_line("provider", provider, setup.plugins.names("provider")))
        talk.request = replace(talk.request, model=command.argument)
        talk.know(model=name, used=None, window=None)
        return _says(talk, f"the model is {name} from now on")

    return _safely(talk, use)


def _models(talk: ChatTalk, command: Typed) -> Work:
    return Reply(talk.shell("models", *command.words))


def _agent(talk: ChatTalk, command: Typed) -> Work:
    async def say() -> Reply:
        return _says(talk, f"the agent is {await talk.agent()}")

    async def use() -> Reply:
        from afkcli.commands.turn import flags_of
        from afkcli.wiring.agents import agent_and_model

        setup = (await talk.session()).setup
        request = replace(talk.request, agent=command.argument, model=None)
        agent, model = agent_and_model(setup, flags_of(request), None)
        talk.request = request
        talk.know(model=model.value, used=None, window=None)
        return _says(talk, f"the agent is {agent.name} from now on, with the model {model.value}")

    return _safely(talk, use if command.argument else say)


def _tools(talk: ChatTalk, command: Typed) -> Work:
    if not command.words:
        plugins = [word for file in talk.request.plugins for word in ("--plugin", str(file))]
        code = talk.shell("tools", *plugins)
        if talk.request.tools:
            talk.messages.say(f"given in this chat: {', '.join(talk.request.tools)}")
        return Reply(code)

    async def add() -> Reply:
        from afkcli.wiring.toolbox import Toolbox

        names = tuple(dict.fromkeys((*talk.request.tools, *command.words)))
        Toolbox((await talk.session()).setup).find(command.words).close()  # it refuses what is unknown
        talk.request = replace(talk.request, tools=names)
        return _says(talk, f"the agent has these tools too from now on: {', '.join(names)}")

    return _safely(talk, add)


def _attach(talk: ChatTalk, command: Typed) -> Work:
    from afkcli.commands.question import attachments

    if command.words == ("none",):
        talk.attached = ()
        return _says(talk, "nothing is attached to the next message")
    if command.words:
        if "-" in command.words:
            raise UsageError("/attach takes files and URLs; stdin is what the chat reads")
        sources = tuple(map(os.path.expanduser, command.words))
        found = attachments(talk.invocation, replace(talk.request, attach=sources, read_stdin=False), talk.messages)
        talk.attached = (*talk.attached, *found)
    names = ", ".join(item.name or "a file without a name" for item in talk.attached)
    return _says(talk, f"attached to the next message: {names}" if names else "nothing is attached to the next message")


def _undo(talk: ChatTalk, command: Typed) -> Work:
    return _changes(talk, "undo", _counted(command))


def _redo(talk: ChatTalk, command: Typed) -> Work:
    return _changes(talk, "redo", _options(command))


def _retry(talk: ChatTalk, command: Typed) -> Work:
    _check_no_words(command)
    return talk.take(replace(talk.request, thread=_thread(talk), retry=True), Question(replaces="last"))


def _resume(talk: ChatTalk, command: Typed) -> Work:
    _check_no_words(command)
    return talk.take(replace(talk.request, thread=_thread(talk), resume=True), Question())


def _edit(talk: ChatTalk, command: Typed) -> Work:
    from afkcli.commands.question import edited
    from afkcli.wiring.assembly import load_setup

    _check_no_words(command)
    thread = _thread(talk)
    setup = load_setup(talk.invocation, project=True)
    request, question = edited(talk.invocation, setup, replace(talk.request, thread=thread, edit=True))
    return talk.take(request, question)


def _fork(talk: ChatTalk, command: Typed) -> Work:
    code, name = talk.shell.output("threads", "fork", _thread(talk), *command.words)
    if code == EXIT_OK and name:
        talk.switch(name, is_begun=True)
        talk.messages.say(f"the chat continues in {name}")
    return Reply(code)


def _compact(talk: ChatTalk, command: Typed) -> Work:
    return _changes(talk, "compact", _options(command))


def _cost(talk: ChatTalk, command: Typed) -> Work:
    return Reply(talk.shell("usage", "--thread", _thread(talk), "--by", "model", *_options(command)))


def _show(talk: ChatTalk, command: Typed) -> Work:
    plain = ("--plain",) if talk.request.plain else ()
    return Reply(talk.shell("threads", "show", _thread(talk), *plain, *_counted(command)))


def _search(talk: ChatTalk, command: Typed) -> Work:
    if not command.words:
        raise UsageError("/search needs words to look for")
    return Reply(talk.shell("threads", "search", *command.words))


def _threads(talk: ChatTalk, command: Typed) -> Work:
    return Reply(talk.shell("threads", *command.words))


def _other_thread(talk: ChatTalk, command: Typed) -> Work:
    if not command.argument:
        return _says(
            talk, f"the thread is {talk.thread}" if talk.thread else "a new thread begins with the next message"
        )

    async def switch() -> Reply:
        info = await (await talk.session()).runner.thread_meant(command.argument)
        talk.switch(info.name, is_begun=True)
        talk.know(model=talk.request.model or info.model, cost=info.cost_usd)
        return _says(talk, f"the chat continues in {info.name}")

    return _safely(talk, switch)


def _new(talk: ChatTalk, command: Typed) -> Work:
    from afkcli.core.thread.names import check_name

    name = check_name(command.argument) if command.argument else None

    async def switch() -> Reply:
        if name is not None and await _is_there(talk, name):
            raise UsageError(f"there is a thread {name!r} already; /thread {name} continues it")
        talk.switch(name, is_begun=False)
        return _says(talk, "a new thread begins with the next message")

    return _safely(talk, switch)


async def _is_there(talk: ChatTalk, name: str) -> bool:
    try:
        return (await (await talk.session()).runner.thread_meant(name)).name == name
    except UsageError:
        return False


def _quit(talk: ChatTalk, command: Typed) -> Work:
    return Reply(leaves=True)


def _changes(talk: ChatTalk, verb: str, options: Sequence[str]) -> Reply:
    """Change what the model sees of the thread; how many tokens that is, the next answer tells."""
    code = talk.shell("threads", verb, _thread(talk), *options)
    if code == EXIT_OK:
        talk.know(used=None)
    return Reply(code)


def _counted(command: Typed) -> tuple[str, ...]:
    """Return the options behind a command whose single word may be a number: `/undo 2` is `/undo -n 2`."""
    words = command.words
    if len(words) == 1 and words[0].isdecimal():
        return ("-n", words[0])
    return _options(command, "a whole number")


def _options(command: Typed, takes: str = "no words") -> tuple[str, ...]:
    """Return the options behind a command; for other words the shell's command would name a line of the shell."""
    if command.words and not command.words[0].startswith("-"):
        raise UsageError(f"/{command.command} takes {takes} (got {command.argument!r})")
    return command.words


def _check_no_words(command: Typed) -> None:
    """Refuse words behind a command that has no use for them: they may be meant for the model."""
    if command.words:
        raise UsageError(f"/{command.command} takes no words (got {command.argument!r})")


def _says(talk: ChatTalk, line: str) -> Reply:
    talk.messages.say(line)
    return Reply()


async def _safely(talk: ChatTalk, work: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
    """Do `work`; an error is one line."""
    try:
        return await work()
    except AfkError as error:
        return Reply(talk.said(error))


def _thread(talk: ChatTalk) -> str:
    """Return the name of the thread; `UsageError` if it has not begun."""
    if talk.thread is None:
        raise UsageError(_NO_QUESTION)
    return talk.thread


_COMMANDS: dict[str, Callable[[ChatTalk, Typed], Work]] = {
    "help": _help,
    "model": _model,
    "models": _models,
    "agent": _agent,
    "tools": _tools,
    "attach": _attach,
    "undo": _undo,
    "redo": _redo,
    "retry": _retry,
    "edit": _edit,
    "resume": _resume,
    "fork": _fork,
    "compact": _compact,
    "cost": _cost,
    "show": _show,
    "search": _search,
    "thread": _other_thread,
    "threads": _threads,
    "new": _new,
    "quit": _quit,
}
