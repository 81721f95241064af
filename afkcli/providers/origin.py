"""Where opaque data came from, so that it goes back there and nowhere else."""

from __future__ import annotations

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.messages import ProviderData
from afkcli.core.contract.structs import FrozenStruct

_SERVER = "server"


class Origin(FrozenStruct, kw_only=True):
    """One model at one server, by way of one provider and API. `server` is its base URL, or any name that tells it.

    Since: 0.2.
    """

    provider: str
    api: str
    model: str
    server: str

    def data(self, **payload: Json) -> ProviderData:
        """Return what is stored of `payload` with a part."""
        stored = {_SERVER: self.server, **payload}
        return ProviderData(provider=self.provider, api=self.api, model=self.model, payload=stored)

    def own(self, data: ProviderData | None) -> JsonObject | None:
        """Return the payload of data that came from here, None for any other."""
        if data is None or (data.provider, data.api, data.model) != (self.provider, self.api, self.model):
            return None
        payload = data.payload
        return payload if isinstance(payload, dict) and payload.get(_SERVER) == self.server else None
