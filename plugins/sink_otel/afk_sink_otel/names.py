"""The names that the GenAI semantic conventions give to what is sent, and the few of our own.

From https://github.com/open-telemetry/semantic-conventions-genai, tag v0.1.0. They were compared, name by name, with a
copy of its documents of autumn 2026: client inference and token metrics (which refer to version 1.44.0 of the general
conventions), agents and tools (1.42.0). The names in the package `opentelemetry-semantic-conventions` are older and are
deprecated there. What the conventions have no name for begins with `afk.`.
"""

from __future__ import annotations

CONVENTIONS = "v0.1.0"

# Attributes of spans and metrics.
OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
CONVERSATION_ID = "gen_ai.conversation.id"
COMPACTED = "gen_ai.conversation.compacted"
AGENT_NAME = "gen_ai.agent.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_MODALITY = "gen_ai.token.modality"  # noqa: S105
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"
ERROR_TYPE = "error.type"

# Attributes that hold content.
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT = "gen_ai.tool.call.result"

# Operations.
CHAT = "chat"
INVOKE_AGENT = "invoke_agent"
EXECUTE_TOOL = "execute_tool"

# Values.
FUNCTION = "function"
UNKNOWN_MODALITY = "unknown"
FINISHED_BY_ERROR = "error"
FINISHED_BY_TOOL_CALL = "tool_call"
OTHER_ERROR = "_OTHER"
TOOL_ERROR = "tool_error"

# Metrics.
INFERENCE_DURATION = "gen_ai.client.inference.duration"
INFERENCE_TIME_TO_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk"
USAGE_INPUT_TOKENS = "gen_ai.client.inference.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.client.inference.usage.output_tokens"
USAGE_CACHE_READ_TOKENS = "gen_ai.client.inference.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_TOKENS = "gen_ai.client.inference.usage.cache_write.input_tokens"
USAGE_REASONING_TOKENS = "gen_ai.client.inference.usage.reasoning.output_tokens"
OPERATION_INPUT_TOKENS = "gen_ai.client.inference.operation.input_tokens"
OPERATION_OUTPUT_TOKENS = "gen_ai.client.inference.operation.output_tokens"
AGENT_DURATION = "gen_ai.invoke_agent.duration"
AGENT_INFERENCE_CALLS = "gen_ai.invoke_agent.inference_calls"
AGENT_TOOL_CALLS = "gen_ai.invoke_agent.tool_calls"
TOOL_DURATION = "gen_ai.execute_tool.duration"

# Our own.
RUN_ID = "afk.run.id"
RUN_RESUMES = "afk.run.resumes"
RUN_STATE = "afk.run.state"
RUN_REASON = "afk.run.reason"
RUN_COST = "afk.run.cost_usd"
TURN = "afk.turn"
STEP = "afk.step"
RETRY = "afk.retry"
ATTEMPT = "afk.attempt"
DELAY = "afk.delay_s"
WARNING = "afk.warning"
WARNING_CODE = "afk.warning.code"
APPROVAL_REQUESTED = "afk.approval.requested"
APPROVAL_RESOLVED = "afk.approval.resolved"
APPROVAL_ID = "afk.approval.id"
APPROVAL_DECISION = "afk.approval.decision"
APPROVAL_BY = "afk.approval.by"

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""LiteLLM's names of providers for which the conventions have another name."""


def provider_and_model(model: str) -> tuple[str, str]:
    """Return the provider and the model of a model's full name, as the conventions name them.

    A model of LiteLLM (`litellm/groq/llama`) has the provider behind LiteLLM, which is named after it.
    """
    provider, _, name = model.partition("/")
    if provider == "litellm" and "/" in name:
        provider, _, name = name.partition("/")
    return _PROVIDERS.get(provider, provider), name
