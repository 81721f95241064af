"""`afk agents`, as a user meets it."""

from __future__ import annotations

from tests.e2e.shell import Shell

CONFIG = """
agent = "critic"
model = "openai/gpt-5.2"
[agents.critic]
model = "openai/gpt-5.2-mini"
instructions = '''

  Be strict.
  Be short.'''
tools = ["files.read", "shell.*"]
[agents.critic.options]
temperature = 0
[agents.lost]
instructions_file = "none.md"
"""


def config(shell: Shell, text: str = CONFIG) -> None:
    folder = shell.home / "afk" / "config"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "config.toml").write_text(text)
    (folder / "config.toml").chmod(0o600)


def test_lists_the_agents_with_the_chosen_one_marked(shell: Shell) -> None:
    config(shell)

    lines = [" ".join(line.split()) for line in shell.in_process("agents").out.splitlines()]
    assert lines[0] == "afk openai/gpt-5.2 - -"
    assert lines[1] == "critic* openai/gpt-5.2-mini files.read shell.* Be strict."
    assert lines[2].startswith("lost openai/gpt-5.2 - the instructions_file")


def test_the_default_agent_is_there_without_a_config(shell: Shell) -> None:
    assert shell.in_process("agents").out.split()[0] == "afk*"


def test_shows_one_in_full(shell: Shell) -> None:
    config(shell)

    shown = shell.in_process("agents", "show", "critic").out
    assert "model: openai/gpt-5.2-mini\n" in shown
    assert "tools: files.read, shell.*\n" in shown
    assert "Be strict.\n  Be short." in shown
    (row,) = shell.in_process("agents", "show", "critic", "--json").events
    assert (row["name"], row["default"], row["options"]) == ("critic", True, {"temperature": 0})
    assert [item["name"] for item in shell.in_process("agents", "--json").events] == ["afk", "critic", "lost"]


def test_a_name_that_is_not_there_gets_the_near_one(shell: Shell) -> None:
    config(shell)

    done = shell.in_process("agents", "show", "critc")
    assert done.code == 2
    assert "there is no agent 'critc'; did you mean 'critic'?" in done.err
    assert "agents: afk, critic, lost" in shell.in_process("agents", "show", "zzz").err


def test_agents_of_a_project_count_as_far_as_it_is_trusted(shell: Shell) -> None:
    (shell.folder / "afk.toml").write_text('[agents.local]\ninstructions = "Hi."\ntools = ["shell.run"]\n')

    before = shell.in_process("agents", "show", "local", "--json")
    assert before.events[0]["tools"] == []
    assert "is not trusted" in before.err
    shell.in_process("trust")
    assert shell.in_process("agents", "show", "local", "--json").events[0]["tools"] == ["shell.run"]
