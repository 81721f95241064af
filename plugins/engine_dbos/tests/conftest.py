"""What the tests of the engine on DBOS share: a server with DBOS's tables, and a schema for each test."""

from __future__ import annotations

from tests.postgres_server import HAS_SERVER

collect_ignore_glob = [] if HAS_SERVER else ["test_*.py"]
