"""What all tests share: no example of a property has a time limit, which a machine that is busy would break."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("afk", deadline=None)
settings.load_profile("afk")
