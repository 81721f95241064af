"""Words that people type out of habit: commands and options of `llm`, `aichat`, `claude`, `codex`, `ollama` and others.

Each word has what to type here. Where there are several, the first one counts whose command exists.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Words = Mapping[str, Sequence[str]]


def _words(table: Mapping[str, str]) -> Words:
    """Return a table by single words; its keys are words with blanks between them, its values commands with `|`.

    A value after `#` is a sentence.
    """
    return {word: meant.split(" | ") for words, meant in table.items() for word in words.split()}


COMMANDS: Mapping[str, Words] = {
    "": _words(
        {
            "ask query exec execute complete generate say send new start message q e p": "run",
            "prompt": "run | prompts",
            "chat repl interactive shell talk tui i": "chat | run -c",
            "continue c": "run -c",
            "retry again regenerate redo-answer": "run --retry",
            "edit": "run --edit",
            "attach image img file vision": "run --attach",
            "ls list ps sessions session conversations conversation chats history hist thread": "threads",
            "logs log": "threads show",
            "show view cat open read transcript": "threads show",
            "undo back revert": "threads undo",
            "redo": "threads redo",
            "resume": "threads resume",
            "fork branch": "threads fork",
            "tag label": "threads tag",
            "compact summarize summarise summary compress": "threads compact",
            "export dump backup save share": "threads export",
            "import load restore migrate": "threads import",
            "search find grep": "threads search",
            "rename mv": "threads rename",
            "copy cp clone duplicate": "threads copy",
            "rm remove delete del clear": "threads rm",
            "gc prune clean cleanup": "threads gc",
            "tail watch follow": "events tail -f",
            "event": "events tail",
            "schema schemas": "events schema",
            "cost costs stats tokens price spend billing": "usage",
            "login auth key token credentials apikey api-key": "#`afk keys set PROVIDER` keeps a key",
            "logout": "keys rm",
            "model list-models pull": "models | doctor",
            "provider providers": "models | plugins",
            "agent": "agents | config show",
            "template templates tpl snippet snippets": "prompts | config show",
            "alias aliases role roles": "config show",
            "mcp tool": "tools",
            "install add": "plugins install | plugins",
            "uninstall": "plugins uninstall | plugins",
            "plugin extensions extension": "plugins",
            "settings setting set setup configure configuration onboard cfg options": "config",
            "status check health info env diagnose debug test ping whoami": "doctor",
            "approve permissions allow": "trust",
            "completions autocomplete": "completion",
            "version": "--version",
            "help man commands usage-help ?": "--help",
        }
    ),
    "threads": _words(
        {
            "ls list all": "threads",
            "view cat open log logs history read get print messages": "threads show",
            "find grep query": "threads search",
            "continue go": "threads resume",
            "new create start add": "run -t",
            "retry": "run --retry -t",
            "revert back": "threads undo",
            "mv name title": "threads rename",
            "branch cp clone duplicate": "threads fork",
            "move transfer migrate sync push upload": "threads copy",
            "label tags": "threads tag",
            "summarize summarise summary compress": "threads compact",
            "dump backup save share": "threads export",
            "load restore": "threads import",
            "delete remove del drop": "threads rm",
            "clean cleanup prune purge": "threads gc",
        }
    ),
    "events": _words({"ls list show log logs follow watch stream last": "events tail", "replay": "replay"}),
    "config": _words(
        {
            "ls list get print dump cat view": "config show",
            "where file files paths dir location": "config path",
            "set edit add unset": "#`afk config path` shows the file to edit",
            "init create new": "init",
            "check validate test": "doctor",
        }
    ),
    "tools": _words({"ls list all": "tools", "get info describe view": "tools show", "add enable use": "run --tool"}),
    "agents": _words(
        {
            "ls list all": "agents",
            "view cat get": "agents show",
            "new add create edit rm delete remove": "#agents are in the config; `afk config path` shows it",
        }
    ),
    "plugins": _words({"ls list show all": "plugins", "add get": "plugins install", "remove rm": "plugins uninstall"}),
    "keys": _words(
        {"ls show get": "keys list", "add save new update": "keys set", "delete remove del unset": "keys rm"}
    ),
    "prompts": _words(
        {
            "ls all": "prompts list",
            "cat view get": "prompts show",
            "create add": "prompts new",
            "rm remove delete del": "#a prompt is a file: `afk prompts list --json` shows its path",
        }
    ),
}
"""By the path of a group, what a word that is not one of its commands means: a command line without `afk`."""

ARGUMENTS: Mapping[str, str] = {"models": "--query", "usage": "--thread"}
"""By the path of a command without arguments, the option that a word after it is meant for."""

OPTIONS: Mapping[str, Words] = {
    "": _words({"-v -version --ver": "--version", "-help -H -?": "--help"}),
    "run": _words(
        {
            "--system --system-prompt --append-system-prompt --sys": "--instructions",
            "--message --query --input --text --ask": "",
            "--file --files --image --img --attachment --attachments --fragment --input-file --pdf -f -i": "--attach",
            "--session --conversation --cid --chat --name --id --thread-id --session-id": "--thread",
            "--resume --last --continue-last": "--continue",
            "--role --profile --persona": "--agent",
            "--tools --allowed-tools --allowedTools --allow-tool -T": "--tool",
            "--permission-mode --ask-for-approval --approval-mode": "--approvals",
            "--output-format --format --jsonl": "--json",
            "--no-stream --nostream -S": "--final",
            "--no-markdown --no-color --raw --no-md --text-only": "--plain",
            "--silent": "--quiet",
            "--verbose --trace -v": "--debug",
            "--thinking --think --show-reasoning": "--reasoning",
            "--no-log --no-save --ephemeral --no-history --private": "--no-memory",
            "--max-turns --max-iterations --steps": "--max-steps",
            "--budget --max-budget-usd --max-budget --cost-limit": "--max-cost",
            "--time-limit --max-time --max-wall-time": "--timeout",
            "--template --prompt-file": "--prompt",
            "--param --params --variable": "--var",
            "--json-schema --output-schema --response-format": "--schema",
            "--preview --debug-request --show-request": "--dry-run",
            "--effort --reasoning-effort": "-o reasoning_effort",
            "--temp": "-o temperature",
            "--max-tokens --max-output-tokens --tokens --num-predict": "-o max_output_tokens",
            "--stop-sequence --stop-sequences": "-o stop",
            "--top-p": "-o top_p",
        }
    ),
    "threads show": _words({"--limit --last --turns --count --lines": "--number", "--format --export": "--raw"}),
    "threads undo": _words({"--limit --last --turns --count --steps": "--number"}),
    "threads": _words({"--lines --last --count --number": "--limit", "--query --grep --find": "--search"}),
    "threads rm": _words({"--force -f --no-confirm": "--yes"}),
    "threads copy": _words({"--target --dest --destination --into --store --backend --output -t -o": "--to"}),
    "threads export": _words({"--file --out --to": "--output", "--md --markdown": "--format"}),
    "events tail": _words({"--limit --number --last --count": "--lines", "--watch -w": "--follow"}),
    "usage": _words({"--group-by --per": "--by"}),
    "models": _words({"--search --grep --filter --find --model -m": "--query", "-p --from": "--provider"}),
}
"""By the path of a command, what an option of another program is called here; "" for a value that is the message, and
`-o NAME` for an option of the model."""

_RULES = "rules in [[approvals.rules]] of the config allow tools, and `afk tools show NAME` shows one"
SENTENCES: Mapping[str, str] = {
    **dict.fromkeys(
        ("--yolo", "--dangerously-skip-permissions", "--full-auto", "--auto-approve", "--yes", "-y"), _RULES
    ),
    "--provider": "name it with the model: --model PROVIDER/MODEL",
    "--output": "the answer goes to stdout: put `> FILE` at the end",
    "--api-key": "`afk keys set PROVIDER` keeps a key",
    "--key": "`afk keys set PROVIDER` keeps a key",
    "--base-url": "set it with `base_url` in [providers.openai], or OPENAI_BASE_URL",
    "--api-base": "set it with `base_url` in [providers.openai], or OPENAI_BASE_URL",
    "--host": "set the server with `base_url` in [providers.openai], or OPENAI_BASE_URL",
    "--config": "the config is found by itself; AFK_HOME moves it, and `afk config path` shows it",
    "--mcp-config": "name servers in [tools.mcp.servers] of the config",
    "--cd": "afk works in the folder in which it is called: use cd",
    "--list-models": "`afk models` lists models",
    "--search": "`afk threads search WORDS` searches conversations",
    "--sessions": "`afk threads` lists conversations",
}
"""Options of other programs for which there is no option, with the sentence that says what there is."""

QUESTION_WORDS = frozenset(
    [
        "what",
        "what's",
        "who",
        "why",
        "how",
        "when",
        "where",
        "which",
        "whose",
        "is",
        "are",
        "am",
        "was",
        "can",
        "could",
        "do",
        "does",
        "did",
        "should",
        "will",
        "would",
        "tell",
        "write",
        "explain",
        "give",
        "please",
        "hi",
        "hello",
        "hey",
        "i",
        "you",
        "the",
        "a",
        "an",
        "make",
        "translate",
        "fix",
    ]
)
"""Words with which a question or a request begins; some are near to commands, as `what` is to `chat`."""
