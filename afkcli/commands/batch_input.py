"""What `afk batch run` reads: its options about prompts, and the source, the defaults and the prompt file of them.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from afkcli.commands.base import MESSAGE, MODEL, OUTPUT, option
from afkcli.commands.completion import complete_file, complete_prompt
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.turn_options import options_of_the_model
from afkcli.commands.variable_option import variable_option

if TYPE_CHECKING:
    from afkcli.batch.batch_request import BatchRequest
    from afkcli.batch.prompt import Defaults, Prompt
    from afkcli.batch.sources import Source
    from afkcli.batch.templates import Template
    from afkcli.config.prompt_file import Prompt as PromptFile
    from afkcli.host.invocation import Invocation
    from afkcli.wiring.setup import Setup

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    option(
        "--prompt",
        "-p",
        group=MESSAGE,
        once=True,
        metavar="NAME",
        shell_complete=complete_prompt,
        help="Make each message with the prompt NAME (see `afk prompts`), or with a file whose path has a slash.",
    ),
    variable_option,
    option(
        "--format",
        "form",
        group=MESSAGE,
        type=click.Choice(["jsonl", "csv", "tsv", "text"]),
        help="The form of PROMPTS; by default its name or its first character tells it.",
    ),
    option(
        "--sample",
        group=MESSAGE,
        type=WholeNumber(min=1),
        metavar="N",
        help="Ask only N of the prompts, the same ones each time.",
    ),
    option("--instructions", "-s", group=MODEL, once=True, metavar="TEXT", help="Instructions for all prompts."),
    option(
        "--option",
        "options",
        group=MODEL,
        multiple=True,
        callback=options_of_the_model,
        metavar="NAME=VALUE",
        help="An option of the model, such as temperature=0; may be given more than once.",
    ),
    option(
        "--schema",
        group=OUTPUT,
        shell_complete=complete_file,
        metavar="FILE|JSON",
        help="Each answer must be JSON that matches this JSON Schema.",
    ),
)


def input_options(function: F) -> F:
    """Give a command the options about what a batch reads."""
    for declared in reversed(_OPTIONS):
        function = declared(function)
    return function


class BatchInput(NamedTuple):
    """Where the prompts of a batch are, and what the command line says for all of them."""

    source: Source
    defaults: Defaults
    template: Template | None

    def prompts(
        self, setup: Setup, *, sample: int | None = None, needs_keys: bool = True, fixes_models: bool = False
    ) -> Iterable[Prompt]:
        """Return the prompts as they are read, or a sample of them; raises as `read_prompts`."""
        from afkcli.batch.reading import read_prompts
        from afkcli.batch.sample import sampled

        found = read_prompts(
            self.source, setup, self.defaults, self.template, needs_keys=needs_keys, fixes_models=fixes_models
        )
        return found if sample is None else sampled(found, sample)


def input_of(invocation: Invocation, request: BatchRequest, results: Path, notify: Callable[[str], None]) -> BatchInput:
    """Return what a batch reads; its prompt file and its schema are read here, its prompts are not.

    Args:
        invocation: whose stdin and prompts count.
        request: what is asked for.
        results: the file of the results.
        notify: takes a line for a person.

    Raises:
        UsageError: the prompt file, the schema or a variable cannot be used.
    """
    from afkcli.batch.prompt import Defaults
    from afkcli.batch.sources import Source
    from afkcli.batch.templates import Template
    from afkcli.core.contract.errors import UsageError

    source = Source(file=request.prompts, stdin=invocation.stdin, form=request.form, results=results)
    limits = {} if request.timeout is None else {"max_wall_time_s": request.timeout}
    defaults = Defaults(
        model=request.model,
        agent=request.agent,
        instructions=request.instructions,
        tools=request.tools,
        options=dict(request.options),
        limits=limits,
        schema=_schema(request.schema),
    )
    if request.prompt is None:
        if request.variables:
            raise UsageError("--var fills the variables of a prompt; add --prompt NAME")
        return BatchInput(source, defaults, None)
    from afkcli.commands.prompt_lookup import Prompts

    prompt, line = Prompts(invocation).find(request.prompt)
    if line is not None:
        notify(line)
    template = Template(prompt, request.variables, instructs=request.instructions is None)
    return BatchInput(source, _completed(defaults, prompt, template), template)


def _completed(defaults: Defaults, prompt: PromptFile, template: Template) -> Defaults:
    """Return the defaults with what the prompt file says where the command line does not."""
    from afkcli.core.contract.jsonform import dumps
    from afkcli.core.contract.structs import replace

    schema = prompt.schema
    named = str(schema) if isinstance(schema, Path) else None if schema is None else dumps(dict(schema))
    instructions = None if template.has_own_instructions else prompt.instructions
    return replace(
        defaults,
        model=defaults.model if defaults.model is not None else prompt.model,
        agent=defaults.agent if defaults.agent is not None else prompt.agent,
        instructions=defaults.instructions if defaults.instructions is not None else instructions,
        tools=(*prompt.tools, *defaults.tools),
        options={**prompt.options, **defaults.options},
        schema=defaults.schema if defaults.schema is not None else _schema(named),
    )


def _schema(given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    from afkcli.commands.schema_option import read_schema

    return read_schema(given)
