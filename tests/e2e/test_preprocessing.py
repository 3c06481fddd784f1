import json

import httpx
import pytest

from tests.e2e.conftest import DATA
from tests.e2e.test_artifacts import TINY_JOB, run_job

pytestmark = pytest.mark.e2e


def test_one_file_is_cleaned_split_by_group_trained_on_and_scored(http: httpx.Client):
    rows = [json.loads(line) for line in (DATA / "validation.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": f"<p>{row['text']}</p>", "film": n // 4}) for n, row in enumerate(rows)]
    lines.append(lines[0])
    file = http.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("reviews.jsonl", "\n".join(lines).encode())}
    ).json()
    asked = {"strip_html": True, "deduplicate": "training", "split": {"validation": 0.2, "test": 0.2, "group": "film"}}
    job = run_job(http, TINY_JOB | {"training_file": file["id"], "preprocessing": asked})
    assert job["status"] == "succeeded", job["error"]
    assert {"validation", "test"} <= job["metrics"].keys()

    messages = http.get(f"/v1/fine_tuning/jobs/{job['id']}/events", params={"limit": 100}).json()["data"]
    told = {event["data"]["code"]: event["data"] for event in messages if "code" in event["data"]}
    assert told["cleaned"]["changed"] == {"train": len(lines)}
    assert sum(told["split"]["rows"].values()) == len(lines)

    model = job["fine_tuned_model"]
    settings = http.get(f"/v1/models/{model}/files/preprocessing.json").json()
    assert settings["cleaning"] == {"strip_html": True}
    assert settings["split"] == job["preprocessing"]["split"]
    parts = http.get(f"/v1/models/{model}/files/split.csv").text.splitlines()
    assert len(parts) == 1 + len(lines)
    sides: dict[int, set[str]] = {}
    for row, part in (line.split(",") for line in parts[1:]):
        sides.setdefault(json.loads(lines[int(row) - 1])["film"], set()).add(part)
    assert all(len(parts - {"removed"}) == 1 for parts in sides.values())
