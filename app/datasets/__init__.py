"""Untrusted data files in, canonical records and a report out. Runs in a process of its own, without torch."""

import os

# Arrow's default allocator (mimalloc) maps 1 GiB at its first allocation, all of which counts as memory of a process
# whose memory is bounded; malloc maps what it hands out. Arrow reads this variable when it is first imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
