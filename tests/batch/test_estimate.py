"""What is said of a batch before it is paid, and the sample that is asked first."""

from __future__ import annotations

from pathlib import Path

import pytest

from afkcli.batch.estimate import Estimate, Estimator
from afkcli.batch.prompt import Defaults
from afkcli.batch.sample import sampled
from afkcli.core.contract.errors import UsageError
from afkcli.host.paths import config_file
from afkcli.wiring.assembly import load_setup
from tests.batch.conftest import Read
from tests.batch.test_reading import PNG, lines


@pytest.fixture(autouse=True)
def _prices(tmp_path: Path) -> None:
    with config_file({"AFK_HOME": str(tmp_path / "home")}).open("a") as file:
        file.write('\n[prices."openai/priced"]\ninput = 1.0\noutput = 10.0\n')


def estimate(read: Read, content: str, **defaults: object) -> Estimate:
    made = Defaults(**defaults)  # type: ignore[arg-type]
    estimator = Estimator(load_setup(), made)
    assert len(list(estimator.each(read(content, needs_keys=False)))) == estimator.estimate.prompts
    return estimator.estimate


def test_counts_the_input_and_the_longest_answers(read: Read) -> None:
    content = lines("x" * 4000, {"message": "y" * 400, "options": {"max_output_tokens": 50}})
    found = estimate(read, content, model="openai/priced", options={"max_output_tokens": 100})
    assert (found.prompts, found.input_tokens) == (2, 1000 + 4 + 100 + 4)
    assert found.input_usd == pytest.approx(1108 / 1e6)
    assert found.most_usd == pytest.approx(1108 / 1e6 + 150 * 10 / 1e6)


def test_says_unknown_where_answers_have_no_limit(read: Read) -> None:
    found = estimate(read, lines("a"), model="openai/priced")
    assert (found.to_json()["most_usd"], found.to_json()["models"][0]["max_output_tokens"]) == (None, None)
    assert found.input_usd is not None


def test_says_unknown_where_one_price_is(read: Read) -> None:
    content = lines("a", {"message": "b", "model": "openai/never-heard-of"})
    found = estimate(read, content, model="openai/priced", options={"max_output_tokens": 5})
    assert (found.input_usd, found.most_usd) == (None, None)
    assert [model.input_usd is None for model in found.models.values()] == [False, True]


def test_counts_instructions_schema_history_and_files(read: Read, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("z" * 4000)
    (tmp_path / "b.png").write_bytes(PNG)
    plain = estimate(read, lines("a"), model="openai/priced").input_tokens
    for more, least in (
        ({"instructions": "w" * 400}, 100),
        ({"attachments": ["a.txt"]}, 1000),
        ({"attachments": ["b.png"]}, 1600),
        ({"attachments": ["https://example.com/x.png"]}, 1600),
        ({"schema": {"type": "object", "description": "d" * 400}}, 100),
    ):
        assert estimate(read, lines({"message": "a", **more}), model="openai/priced").input_tokens >= plain + least
    turns = [{"role": "user", "content": "h" * 400}, {"role": "assistant", "content": "h" * 400}]
    messages = [*turns, {"role": "user", "content": "a"}]
    assert estimate(read, lines({"messages": messages}), model="openai/priced").input_tokens >= plain + 200


def test_asks_no_server_and_needs_no_key(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")  # nothing listens there
    assert estimate(read, lines("a"), model="openai/gpt-5.2").prompts == 1


def test_an_unknown_model_of_the_command_line_is_refused(read: Read) -> None:
    with pytest.raises(UsageError, match="unknown model 'nonsense'"):
        estimate(read, lines("a"), model="nonsense")


def test_a_provider_alone_is_its_default_model(read: Read) -> None:
    (model,) = estimate(read, lines("a"), model="openai").models.values()
    assert model.model.startswith("openai/gpt")


def test_a_sample_is_the_same_wherever_its_prompts_are(read: Read) -> None:
    texts = [f"text {number}" for number in range(200)]
    first = sampled(read(lines(*texts)), 10)
    assert [prompt.index for prompt in first] == sorted(prompt.index for prompt in first)
    assert len(first) == 10
    again = sampled(read(lines(*reversed(texts))), 10)
    assert {prompt.id for prompt in again} == {prompt.id for prompt in first}
    assert {prompt.id for prompt in first} <= {prompt.id for prompt in sampled(read(lines(*texts)), 20)}
    assert {prompt.id for prompt in sampled(read(lines(*texts)), 10, seed=1)} != {prompt.id for prompt in first}


def test_a_sample_checks_all_prompts(read: Read) -> None:
    with pytest.raises(UsageError, match="line 3"):
        sampled(read(lines("a", "b", {"nonsense": 1})), 1)


def test_a_sample_of_more_than_there_are_has_all(read: Read) -> None:
    assert len(sampled(read(lines("a", "b")), 10)) == 2
