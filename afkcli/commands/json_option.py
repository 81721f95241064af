"""`--json`, the option of every command that lists something."""

from __future__ import annotations

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
