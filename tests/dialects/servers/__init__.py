"""The servers, one a file."""

from __future__ import annotations

from tests.dialects.dialect import Dialect
from tests.dialects.servers.anthropic import ANTHROPIC
from tests.dialects.servers.azure import AZURE
from tests.dialects.servers.deepseek import DEEPSEEK
from tests.dialects.servers.google import GOOGLE
from tests.dialects.servers.groq import GROQ
from tests.dialects.servers.kimi import KIMI
from tests.dialects.servers.litellm_proxy import LITELLM_PROXY
from tests.dialects.servers.llama_cpp import LLAMA_CPP
from tests.dialects.servers.lm_studio import LM_STUDIO
from tests.dialects.servers.mistral import MISTRAL
from tests.dialects.servers.ollama import OLLAMA
from tests.dialects.servers.openai import OPENAI
from tests.dialects.servers.openai_chat import OPENAI_CHAT
from tests.dialects.servers.openrouter import OPENROUTER
from tests.dialects.servers.vllm import VLLM

DIALECTS: tuple[Dialect, ...] = (
    OPENAI,
    OPENAI_CHAT,
    AZURE,
    ANTHROPIC,
    GOOGLE,
    GROQ,
    OPENROUTER,
    DEEPSEEK,
    KIMI,
    MISTRAL,
    VLLM,
    LLAMA_CPP,
    LM_STUDIO,
    OLLAMA,
    LITELLM_PROXY,
)
