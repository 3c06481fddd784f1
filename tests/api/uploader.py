"""Uploads in parts over HTTP, each step on its own."""

import hashlib
import itertools
import random
from datetime import timedelta
from typing import Any

import httpx

from app.db import SessionFactory, transaction
from app.storage.database import collect_chunks, collect_orphans
from tests.api.scenery import ROWS, Scenery

UPLOADS = "/v1/uploads"
KEY = "idempotency-key"
RETRY = "x-stainless-retry-count"
CONTENT = random.Random(13).randbytes(2_500_000)
CUTS = [0, 1, 1_048_577, 1_048_580, 2_097_152, 2_500_000]  # pieces of 1 byte, of 3, and across the store's chunks


def pieces(content: bytes = CONTENT, cuts: list[int] = CUTS) -> list[bytes]:
    return [content[start:stop] for start, stop in itertools.pairwise(cuts)]


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Uploader:
    """Uploads over HTTP, each step on its own."""

    def __init__(self, scenery: Scenery) -> None:
        self.scenery = scenery
        self.http = scenery.client

    def create(self, size: int, **fields: Any) -> dict[str, Any]:
        body = {"bytes": size, "filename": "train.jsonl", "purpose": "fine-tune"} | fields
        response = self.http.post(UPLOADS, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def send(self, upload: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/parts", files={"data": ("part", data)}, headers=headers)

    def part(self, upload: dict[str, Any], data: bytes) -> str:
        response = self.send(upload, data)
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def complete(self, upload: dict[str, Any], part_ids: list[str], **fields: Any) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": part_ids} | fields)

    def cancel(self, upload: dict[str, Any]) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/cancel")

    def get(self, upload: dict[str, Any]) -> dict[str, Any]:
        return self.http.get(f"{UPLOADS}/{upload['id']}").json()

    def parts(self, upload: dict[str, Any]) -> list[dict[str, Any]]:
        return self.http.get(f"{UPLOADS}/{upload['id']}/parts").json()["data"]

    def content(self, file: dict[str, Any], **headers: str) -> bytes:
        return self.http.get(f"/v1/files/{file['id']}/content", headers=headers).content

    def in_two_parts(self, content: bytes = ROWS, **fields: Any) -> tuple[dict[str, Any], list[str]]:
        """An upload and its two parts, not completed."""
        upload = self.create(len(content), **fields)
        return upload, [self.part(upload, content[:20]), self.part(upload, content[20:])]


def collect(sessions: SessionFactory) -> None:
    """What the control worker does, long after: a joined blob is collected a round before what it was joined of."""
    for _ in range(2):
        with transaction(sessions) as session:
            collect_orphans(session, timedelta(0))
            collect_chunks(session)
