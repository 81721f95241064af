"""The SHA-256 of a run's requests: what one has in common with the one before it is not hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import dumps, utf8_slices
from afkcli.core.contract.messages import Message, ModelRequest, Role, TextPart
from afkcli.core.contract.structs import msgspec
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
            for piece in _written(message):
                digest.update(piece)
        self._messages, self._digest = tuple(request.messages), digest.copy()
        digest.update(dumps([request.model, list(request.tools), dict(request.options), dict(request.extra)]).encode())
        if request.output_schema is not None:
            digest.update(dumps(request.output_schema).encode())
        return digest.hexdigest()


def _written(message: Message) -> Iterable[bytes]:
    """Return the JSON form of a message as UTF-8, in pieces."""
    part = message.parts[0] if len(message.parts) == 1 else None
    if type(part) is TextPart and part.provider_data is None and type(part.text) is str:
        try:  # nearly every message of a thread is one text: that has a fast way
            return (_HEAD[message.role], _encode(part.text), _TAIL)
        except UnicodeEncodeError:
            pass
    return utf8_slices(dumps(message_to_json(message)))


_HEAD = {role: b'{"role":"%b","parts":[{"text":' % role.encode() for role in Role}
_TAIL = b',"type":"text"}]}'
_encode = msgspec.json.Encoder().encode
