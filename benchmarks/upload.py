"""`python -m benchmarks.upload`: a 1 GiB file over loopback: in one POST and back, then in parts, several at once.

Speed, memory of the API process, and whether the SHA-256 agrees.
"""

import argparse
import hashlib
import io
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table
from typing_extensions import Buffer

from examples.service import own_service

MIB = 1024 * 1024
PART_MIB = 64
PARALLEL = 4


class Pseudorandom(io.RawIOBase):
    """A stream of `size` bytes that do not compress, made as they are read, and their SHA-256."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()
        self._block = hashlib.shake_256(b"tailor").digest(MIB)
        self._left = size

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the buffer with as much as is left and fits."""
        view = memoryview(buffer)
        data = self._block[: min(self._left, len(view), MIB)]
        view[: len(data)] = data
        self._left -= len(data)
        self.sha256.update(data)
        return len(data)


@dataclass(frozen=True)
class InParts:
    """What an upload in parts took: sending, then completing, and the highest resident memory seen meanwhile."""

    send_s: float
    complete_s: float
    peak_bytes: int
    sha256: str


def upload_in_parts(client: httpx.Client, api: psutil.Process, mib: int) -> InParts:
    """A file of `mib` MiB in parts of PART_MIB, PARALLEL at once."""
    sizes = [min(PART_MIB, mib - start) * MIB for start in range(0, mib, PART_MIB)]
    peak = 0

    def send(size: int) -> str:
        nonlocal peak
        content = io.BufferedReader(Pseudorandom(size), MIB)
        part = client.post(f"/v1/uploads/{upload_id}/parts", files={"data": content}).raise_for_status().json()
        peak = max(peak, api.memory_info().rss)
        return part["id"]

    started = time.monotonic()
    new = {"bytes": mib * MIB, "filename": "big.bin", "purpose": "user_data"}
    upload_id = client.post("/v1/uploads", json=new).raise_for_status().json()["id"]
    with ThreadPoolExecutor(PARALLEL) as threads:
        part_ids = list(threads.map(send, sizes))
    sent = time.monotonic()
    answer = client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids}).raise_for_status()
    completed = time.monotonic()
    peak = max(peak, api.memory_info().rss)
    return InParts(sent - started, completed - sent, peak, answer.json()["file"]["sha256"])


def api_process(stack: psutil.Process) -> psutil.Process:
    """The process that serves HTTP, among the children of `tailor up`."""
    return next(child for child in stack.children(recursive=True) if "serve" in child.cmdline())


def main() -> None:
    """Upload, read back, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            own_service(directory / "service", log=directory / "log") as own,
            httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {own.key}"}, timeout=600) as client,
        ):
            api = api_process(psutil.Process(own.process.pid))
            for _ in range(1000):
                client.get("/v1/models").raise_for_status()
            before = api.memory_info().rss
            stream = Pseudorandom(options.mib * MIB)
            content = io.BufferedReader(stream, MIB)
            started = time.monotonic()
            sent = client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("big.bin", content)})
            upload_s = time.monotonic() - started
            stored = sent.raise_for_status().json()
            after_upload = api.memory_info().rss
            received = hashlib.sha256()
            started = time.monotonic()
            with client.stream("GET", f"/v1/files/{stored['id']}/content") as response:
                for piece in response.iter_raw():
                    received.update(piece)
            download_s = time.monotonic() - started
            after_download = api.memory_info().rss
            in_parts = upload_in_parts(client, api, options.mib)
    same = received.hexdigest() == stream.sha256.hexdigest() == stored["sha256"] == in_parts.sha256
    table = Table(title=f"A file of {options.mib} MiB over loopback")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("API memory after 1,000 requests", f"{before / MIB:.0f} MiB")
    table.add_row("upload", f"{upload_s:.1f} s, {options.mib / upload_s:.0f} MiB/s")
    table.add_row("API memory grew by", f"{(after_upload - before) / MIB:.0f} MiB")
    table.add_row("download", f"{download_s:.1f} s, {options.mib / download_s:.0f} MiB/s")
    table.add_row("API memory grew by, in all", f"{(after_download - before) / MIB:.0f} MiB")
    parts_s = in_parts.send_s + in_parts.complete_s
    table.add_row(
        f"upload in parts of {PART_MIB} MiB, {PARALLEL} at once", f"{parts_s:.1f} s, {options.mib / parts_s:.0f} MiB/s"
    )
    table.add_row("of which completing it", f"{in_parts.complete_s:.1f} s")
    table.add_row("API memory grew by, at its peak", f"{(in_parts.peak_bytes - before) / MIB:.0f} MiB")
    table.add_row("SHA-256 sent, stored and received agree", "yes" if same else "NO")
    Console().print(table)


if __name__ == "__main__":
    main()
