"""The secrets of a process, and how they are masked."""

from __future__ import annotations

from collections.abc import Mapping

from afkcli.core.contract.credentials import address_secrets, mask, secret_forms

_MIN_SECRET = 6  # masking shorter ones would mask ordinary words


class Secrets:
    """Secrets that must not be shown. Everything that is written goes through `mask` first."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, value: object) -> None:
        """Mask `value`, or each text in a table or array, from now on; texts of less than 6 characters are ignored."""
        if isinstance(value, str):
            self._values.update(form for form in secret_forms(value) if len(form) >= _MIN_SECRET)
        elif isinstance(value, Mapping):
            for item in value.values():
                self.add(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.add(item)

    def add_address(self, value: object) -> None:
        """Mask the secrets in an address, or in each address in a table or array, from now on."""
        if isinstance(value, str):
            self._values.update(form for form in address_secrets(value) if len(form) >= _MIN_SECRET)
        elif isinstance(value, (Mapping, list, tuple)):
            for item in value.values() if isinstance(value, Mapping) else value:
                self.add_address(item)

    def forget(self) -> None:
        """Mask nothing that was added so far: what comes now has nothing to do with it. Since: 0.2."""
        self._values.clear()

    def may_go_on(self, text: str) -> bool:
        """Return whether a text ends with the beginning of a secret, which the next piece of it may complete."""
        for value in self._values:
            end = text[-(len(value) - 1) :]
            if any(value.startswith(end[start:]) for start in range(len(end))):
                return True
        return False

    def mask(self, text: str) -> str:
        """Return `text` without the secrets."""
        return mask(text, self._values)


SECRETS = Secrets()
"""Those of this process: the ones that its `Invocation` hands down, and to which plugins add."""


def keep_secret(value: object) -> None:
    """Have a value masked in everything that afk writes from here on, or each text in a table or an array.

    The settings that are marked `secret` are kept without it: it is for what a plugin finds out later, a token that a
    server gave, for instance. Texts of less than 6 characters are not masked.

    Since: 0.2.
    """
    SECRETS.add(value)


def mask_secrets(text: str) -> str:
    """Return `text` with the secrets of this process replaced by `***`.

    afk masks what it writes itself. This is for what a plugin writes, or returns to a model, on its own.

    Since: 0.2.
    """
    return SECRETS.mask(text)
