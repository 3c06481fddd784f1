"""Real faults: processes that are killed, servers that go away, disks that are full."""

# Fixtures of other folders that these tests use.
from tests.e2e.conftest import models_dir  # noqa: F401
from tests.worker.conftest import base_models_dir, bench, context, prepared, rows, standby  # noqa: F401
