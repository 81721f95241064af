"""Prices: those of the config, of the provider, of the list of genai-prices; offline, and never a guess."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price

from afkcli.core.contract.protocols import Capabilities, Price
from afkcli.core.contract.result import Usage
from afkcli.core.run.cost import cost_of
from afkcli.testing.model_server import Fault, ModelServer, ScriptedUsage, Step
from afkcli.wiring.prices import PriceList, listed_price
from tests.e2e.shell import AFK, Shell

BILLED = Path(__file__).parents[1] / "limits" / "billed.py"
OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com"
MINE = Price(input=1, output=2)


@pytest.mark.parametrize("input_tokens", [1_000, 500_000])
@pytest.mark.parametrize(
    ("model", "sold_by", "seller"),
    [
        ("gpt-4o", OPENAI, "openai"),
        ("gpt-4o-2024-08-06", "openai", "openai"),
        ("gpt-5.4", OPENAI, "openai"),
        ("claude-sonnet-4-5", ANTHROPIC, "anthropic"),
        ("claude-3-5-haiku-20241022", "anthropic", "anthropic"),
        ("gemini-2.5-pro", "google", "google"),
        ("llama-3.3-70b-versatile", "https://api.groq.com/openai/v1", "groq"),
    ],
)
def test_a_listed_model_costs_what_the_package_itself_says(
    model: str, sold_by: str, seller: str, input_tokens: int
) -> None:
    price = listed_price(model, sold_by)
    assert price is not None
    usage = Usage(input_tokens=input_tokens, output_tokens=300, cache_read_input_tokens=400)
    if price.cache_write is not None:
        usage += Usage(cache_creation_input_tokens=500)
    listed = ListedUsage(
        input_tokens=input_tokens,
        output_tokens=300,
        cache_read_tokens=400,
        cache_write_tokens=usage.cache_creation_input_tokens,
    )

    expected = calc_price(listed, model, provider_id=seller).total_price
    assert cost_of(usage, price) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("listed", "dollars"),
    [
        (Price(input=3, output=15, cache_read=0.3, cache_write=3.75), 500 * 3 + 200 * 3.75 + 300 * 6),
        (Price(input=3, output=15, cache_write=3.75, cache_write_1h=5), 500 * 3 + 200 * 3.75 + 300 * 5),
        (Price(input=3, output=15), 500 * 3 + 200 * 3 + 300 * 6),
    ],
)
def test_a_cache_that_lasts_an_hour_costs_twice_the_input_or_what_its_price_says(listed: Price, dollars: float) -> None:
    written = Usage(input_tokens=1_000, cache_creation_input_tokens=500, cache_creation_1h_input_tokens=300)
    assert cost_of(written, listed) == pytest.approx(dollars / 1_000_000)


def test_the_list_has_the_price_of_a_cache_that_lasts_an_hour() -> None:
    price = listed_price("claude-sonnet-4-5", ANTHROPIC)
    assert price is not None
    assert price.cache_write_1h == pytest.approx(2 * price.input)


@pytest.mark.parametrize(
    ("model", "sold_by"),
    [
        ("gpt-4o", "http://127.0.0.1:8080/v1"),
        ("gpt-4o", "http://[::1]:8080/v1"),
        ("gpt-4o", "http://localhost/v1"),
        ("gpt-4o", "https://models.example.org/v1"),
        ("gpt-4o", "https://api.openai.com.example.org/v1"),
        ("gpt-4o", "https://eu.api.openai.com/v1"),  # other prices
        ("gpt-4o", "nobody"),
        ("gpt-4o", ANTHROPIC),
        ("gpt-5.2-mini", OPENAI),
        ("gpt-4o-of-mine", OPENAI),
        ("whisper-1", OPENAI),  # not sold by tokens
        ("sonar", "perplexity"),  # and a fee for each request
        ("", OPENAI),
    ],
)
def test_nothing_else_has_a_price(model: str, sold_by: str) -> None:
    assert listed_price(model, sold_by) is None


def test_the_config_goes_before_the_provider_and_that_before_the_list() -> None:
    prices = PriceList({"openai/gpt-4o": MINE})
    listed, said = Capabilities(sold_by="openai"), Capabilities(price=Price(input=7, output=8), sold_by="openai")

    assert prices("openai/gpt-4o", said) == MINE
    assert prices("openai/gpt-4o-mini", said) == said.price
    assert prices("openai/gpt-4o-mini", listed) == listed_price("gpt-4o-mini", "openai")
    assert prices("openai/gpt-4o-mini", Capabilities()) is None


def test_without_the_package_a_price_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)

    assert listed_price("gpt-4o", OPENAI) is None


def test_a_look_up_opens_no_connection_and_starts_no_thread() -> None:
    script = (
        "import socket, threading\n"
        "def refuse(*arguments, **options): raise SystemExit('a socket was opened')\n"
        "socket.socket.__init__ = socket.getaddrinfo = refuse\n"
        "from afkcli.wiring.prices import listed_price\n"
        f"assert listed_price('gpt-4o', {OPENAI!r}) is not None\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Shell(home=home, folder=folder, env={"OPENAI_API_KEY": "sk-canary-0123456789"})


def billed(server: ModelServer, shell: Shell, *arguments: str) -> list[str]:
    shell.env["OPENAI_BASE_URL"] = server.base_url
    return ["run", "-n", "--plugin", str(BILLED), "-m", "billed/gpt-4o", *arguments, "hi"]


USED = ScriptedUsage(input_tokens=1000, output_tokens=100)
COST = cost_of(Usage(input_tokens=1000, output_tokens=100), listed_price("gpt-4o", "openai"))


def test_the_cost_of_a_run_is_in_its_result_and_in_the_totals_of_its_thread(shell: Shell) -> None:
    with ModelServer([Step(usage=USED)]) as server:
        results = [shell.afk(*billed(server, shell, "--json", "-t", "t")).events[-1]["result"] for _ in range(2)]
    (thread,) = shell.afk("threads", "--json").events

    assert COST is not None
    assert [result["total_cost_usd"] for result in results] == [pytest.approx(COST)] * 2
    assert thread["total_cost_usd"] == pytest.approx(2 * COST)


def test_the_price_of_another_servers_model_is_unknown(shell: Shell) -> None:
    with ModelServer([Step(usage=USED)]) as server:
        shell.env["OPENAI_BASE_URL"] = server.base_url
        done = shell.afk("run", "-n", "--json", "-m", "openai/gpt-4o", "hi")
        refused = shell.afk("run", "-n", "-m", "openai/gpt-4o", "--max-cost", "1", "hi")
        requests = len(server.requests)

    assert done.events[-1]["result"]["total_cost_usd"] is None
    assert (refused.code, refused.out, requests) == (2, "", 1)
    assert "the price of openai/gpt-4o is unknown" in refused.err


def modules_at(server: ModelServer, shell: Shell, *arguments: str) -> tuple[str, str]:
    """Return what a run had imported when its request arrived, and when it had ended."""
    command = [AFK, *billed(server, shell, *arguments)]
    environment = shell.environment(PYTHONPROFILEIMPORTTIME="1", AFK_WORKER="off")
    log = shell.home / "imports"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=shell.folder, env=environment, stdout=subprocess.DEVNULL, stderr=file)
        server.wait_for_requests(1, timeout=120)
        before = log.read_text()
        server.release()
        assert process.wait(120) == 0
    return before, log.read_text()


@pytest.mark.parametrize("limit", [[], ["--max-cost", "1"]], ids=["without a limit", "with a limit"])
def test_the_price_list_is_imported_before_the_request_only_for_a_limit(shell: Shell, limit: list[str]) -> None:
    with ModelServer([Step(fault=Fault.HANG_BEFORE_HEADERS, usage=USED)]) as server:
        before, after = modules_at(server, shell, *limit)

    assert ("genai_prices" in before) == bool(limit)
    assert "genai_prices.data" in after
