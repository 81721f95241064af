"""The SHA-256 of a run's requests: what one has in common with the one before it is not hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import dumps, utf8_slices
from afkcli.core.contract.messages import Message, ModelRequest
from afkcli.core.thread.common import begins_with


class RequestHash:
    """Hashes the requests of one run, one after the other. In a loop of tool calls each begins with the one before."""

    def __init__(self) -> None:
        self._messages: Sequence[Message] = ()
        self._digest = hashlib.sha256()

    def of(self, request: ModelRequest) -> str:
        """Return the SHA-256 (hex) of the request's neutral JSON form: its messages, one by one, then all else."""
        known, digest = 0, hashlib.sha256()
        if begins_with(request.messages, self._messages):
            known, digest = len(self._messages), self._digest.copy()
        for message in request.messages[known:]:
            for piece in utf8_slices(dumps(message_to_json(message))):
                digest.update(piece)
        self._messages, self._digest = tuple(request.messages), digest.copy()
        digest.update(dumps([request.model, list(request.tools), dict(request.options), dict(request.extra)]).encode())
        if request.output_schema is not None:
            digest.update(dumps(request.output_schema).encode())
        return digest.hexdigest()
