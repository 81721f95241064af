"""The prompt file of a batch (`-p NAME`): what it makes of the message and the variables of each prompt.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from afkcli.batch.rows import RowError
from afkcli.config.prompt_file import INPUT, MESSAGE, Prompt, values_for
from afkcli.config.prompt_message import message_of
from afkcli.config.prompt_text import filled, names_in
from afkcli.core.contract.errors import ConfigError


class Template:
    """A prompt file, and the variables that the command line gives.

    Args:
        prompt: the file.
        variables: the values of `--var`; what a prompt of the batch says goes before them.
        instructs: whether its instructions count; those of the command line go before them.
    """

    def __init__(self, prompt: Prompt, variables: Mapping[str, str], *, instructs: bool = True) -> None:
        values_for(prompt, variables, {}, strict=False)  # it raises for an unknown one
        self._prompt = prompt
        self._variables = variables
        self.names = frozenset(prompt.variables) - {MESSAGE, INPUT}
        instructions = prompt.instructions
        self.has_own_instructions = instructs and bool(instructions and names_in(instructions, str(prompt.path), 1))

    def message(self, text: str, variables: Mapping[str, str]) -> str:
        """Return the message of a prompt: the text of the file, with the prompt's own text and variables.

        Raises:
            RowError: a variable is unknown, or one has no value.
        """
        try:
            return message_of(self._prompt, {**self._variables, **variables}, text, "")
        except ConfigError as error:
            raise RowError(_for_a_batch(str(error))) from None

    def instructions(self, variables: Mapping[str, str]) -> str | None:
        """Return the instructions of the file where they name variables; None if they are the same for all prompts."""
        if not self.has_own_instructions or self._prompt.instructions is None:
            return None
        values = values_for(self._prompt, {**self._variables, **variables}, {}, strict=False)
        return filled(self._prompt.instructions, values)


def _for_a_batch(line: str) -> str:
    """Return the error of `afk run -p` with what mends it in a batch."""
    line, _, _ = line.partition("; add it: afk run")
    line, add, options = line.partition("; add --var ")
    return f"{line}; give 'variables', or --var {options}" if add else line
