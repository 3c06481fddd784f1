"""Chinese through the service: a model of characters is registered, and classifies and tags after a job each."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.service import Service
from tests.contract.characters import write_character_encoder
from tests.e2e.conftest import wait
from tests.e2e.test_artifacts import run_job

SHARED = Path(__file__).parents[3] / "shared" / "data"
REVIEWS, POSTS = SHARED / "sentiment" / "zh_chnsenticorp", SHARED / "ner" / "zh_weibo"
WINDOW = 128

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.realdata,
    pytest.mark.skipif(
        not (REVIEWS.is_dir() and POSTS.is_dir()), reason="the shared corpora are not beside the checkout"
    ),
]

Rows = list[dict[str, Any]]


def read(corpus: Path, split: str) -> Rows:
    return [json.loads(line) for line in (corpus / f"{split}.jsonl").read_text("utf-8").splitlines()]


def short(corpus: Path, split: str) -> Rows:
    """Reviews that fill one window at most, so that the test takes seconds."""
    return [row for row in read(corpus, split) if len(row["text"]) <= 80]


@pytest.fixture(scope="module")
def characters(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a registered random BERT whose vocabulary are the characters of the training data."""
    directory = tmp_path_factory.mktemp("characters")
    texts = [row["text"] for row in short(REVIEWS, "train")] + ["".join(row["tokens"]) for row in read(POSTS, "train")]
    write_character_encoder(directory, texts, window=WINDOW)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(directory, arcname=".")
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as http:
        file = upload(http, "characters.tar.gz", archive.getvalue(), purpose="user_data")
        model = http.post("/v1/models", json={"file": file, "name": "characters"}).raise_for_status().json()["id"]

        def registered() -> dict[str, Any] | None:
            found = http.get(f"/v1/models/{model}").json()
            return found if found["status"] != "processing" else None

        assert wait(registered)["status"] == "ready"
    return model


def upload(http: httpx.Client, name: str, content: bytes, purpose: str = "fine-tune") -> str:
    response = http.post("/v1/files", data={"purpose": purpose}, files={"file": (name, content)})
    return response.raise_for_status().json()["id"]


def lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def trained(http: httpx.Client, model: str, train: Rows, test: Rows, task: dict[str, Any], **given: Any) -> Any:
    request = {
        "model": model,
        "seed": 13,
        "task": task,
        "training_file": upload(http, "train.jsonl", lines(train)),
        "test_file": upload(http, "test.jsonl", lines(test)),
        "hyperparameters": {"batch_size": 16, "precision": "fp32"} | given,
    }
    job = run_job(http, request)
    assert job["status"] == "succeeded", job["error"]
    return job["metrics"]["test"]


def test_reviews_are_told_apart(http: httpx.Client, characters: str) -> None:
    train, test = short(REVIEWS, "train")[:1500], short(REVIEWS, "test")
    majority = Counter(row["label"] for row in test).most_common(1)[0][1] / len(test)
    scores = trained(http, characters, train, test, {"type": "text-classification"}, n_epochs=3, learning_rate=2e-3)
    assert scores["accuracy"] >= max(0.75, majority + 0.15)  # 0.85 was measured, a majority of 0.54


def test_names_are_found_by_character(http: httpx.Client, characters: str) -> None:
    task = {"type": "token-classification", "head": "crf"}
    scores = trained(
        http,
        characters,
        read(POSTS, "train"),
        read(POSTS, "test"),
        task,
        n_epochs=6,
        learning_rate=3e-3,
        head_learning_rate_multiplier=3.0,
    )
    assert scores["f1"] >= 0.25  # 0.40 was measured
    assert sum(entry["support"] for entry in scores["per_class"]) > 400
