"""The answer `p`: a rule that a person sees in full, changes line by line, and puts into the thread or the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from afkcli.commands.terminal_lines import TerminalLines
from afkcli.config.rule_writing import NoTomlError, add_rule, edited_rule, rule_lines
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.rules import ApprovalRule, allows, exact_pattern
from afkcli.core.contract.text import one_line
from afkcli.core.contract.tools import ValidArguments
from afkcli.host.paths import config_file
from afkcli.screen.rule_words import also_allows
from afkcli.screen.shown import shown
from afkcli.screen.styles import BOLD, YELLOW
from afkcli.screen.wrapping import wrapped


class Rule(NamedTuple):
    """A rule that counts from now on, and where it is kept."""

    rule: ApprovalRule
    kept: Literal["thread", "config"]


class RuleDialog:
    """Asks for a rule about one call.

    Args:
        terminal: where it is asked.
        call: the call; the rule has to allow it.
        environment: the variables that say where the config is.
        style: returns a text in a style, where there are styles.
    """

    def __init__(
        self,
        terminal: TerminalLines,
        call: ValidArguments,
        environment: Mapping[str, str],
        style: Callable[[str, str], str],
    ) -> None:
        self._terminal = terminal
        self._call = call
        self._style = style
        self._config = config_file(environment)

    async def ask(self) -> Rule | None:
        """Return the rule; None if the person goes back to the question.

        Raises:
            OSError: the terminal has gone.
        """
        tool = self._call.tool
        rule = ApprovalRule(
            tool=tool.name,
            decision="allow",
            arguments={name: exact_pattern(value) for name, value in self._call.given.items()},
            pins=(tool.fingerprint,) if tool.pinned else (),
            other_arguments=False,
        )
        seen: ApprovalRule | None = None
        while True:
            if seen != rule:
                if not await self._show(rule):
                    return None
                seen = rule
            line = await self._terminal.ask(self._prompt(), fresh=True)
            word = (line or "").strip()
            if not word or word.lower() in ("b", "back"):
                return None
            if word.lower() in ("t", "thread"):
                return Rule(rule, "thread")
            if word.lower() in ("c", "config"):
                if await self._write_to_config(rule):
                    return Rule(rule, "config")
            elif word == "?":
                await self._explain()
            else:
                rule = await self._edited(rule, word)

    def _prompt(self) -> str:
        asked = "afk: keep this rule in this [t]hread, write it to your [c]onfig, go [b]ack, [?], or type a new line: "
        return "\n".join(wrapped(asked, self._terminal.columns))

    async def _show(self, rule: ApprovalRule) -> bool:
        """Show the whole rule and what it allows besides this call; return False if it cannot be a rule."""
        try:
            lines = rule_lines(rule)
        except NoTomlError:
            await self._say(
                "afk: an argument of this call is null, for which a rule has no pattern; use a or y", YELLOW
            )
            return False
        await self._say("afk: this rule would allow such calls:", BOLD)
        for line in lines:
            await self._say(f"  {shown(line)}")
        others = also_allows(rule, self._call.tool)
        for line in others:
            await self._say(f"  ! it also allows {line}", YELLOW)
        if not others:
            await self._say("  it allows exactly this call and no other")
        return True

    async def _edited(self, rule: ApprovalRule, line: str) -> ApprovalRule:
        """Return the rule as a typed line changes it; the rule as it was if the line cannot be used."""
        try:
            new = edited_rule(rule, line)
        except ConfigError as error:
            await self._say(f"afk: {one_line(str(error))}", YELLOW)
            return rule
        if not allows(new, self._call.tool, self._call.given):
            await self._say("afk: with this line the rule would not allow the call that is asked about", YELLOW)
            return rule
        return new

    async def _write_to_config(self, rule: ApprovalRule) -> bool:
        """Write the rule to the user's config; if that is not possible, say why and show the lines to paste."""
        try:
            add_rule(self._config, rule, self._call)
        except ConfigError as error:
            await self._say(f"afk: the rule was not written: {one_line(str(error))}", YELLOW)
            await self._say("afk: to add it yourself, paste these lines:")
            await self._terminal.write("".join(f"{line}\n" for line in rule_lines(rule)))
            return False
        await self._say(f"afk: written to {shown(str(self._config))}")
        return True

    async def _explain(self) -> None:
        for line in (
            "  t  keep it in this thread; `afk threads rules` shows and removes it",
            f"  c  write it to {shown(str(self._config))}, for all threads",
            "  b  back to the question; Enter alone does the same",
            f"  a line of the rule, such as argv = {_EXAMPLE}, puts it in the place of the old one; -NAME takes the"
            " pattern of an argument away",
            '  in a pattern * fits any characters and ? any one; "..." at the end of a list fits any further elements',
        ):
            await self._say(line)

    async def _say(self, text: str, style: str = "") -> None:
        first, *others = wrapped(text, self._terminal.columns, self._terminal.columns - 5)
        lines = [first, *(f"     {other}" for other in others)]
        await self._terminal.write("".join(f"{self._style(line, style)}\n" for line in lines))


_EXAMPLE = '["git", "log", "..."]'
