"""`make demo`: upload a data set, fine-tune a real pretrained encoder over HTTP, watch, download, classify.

Starts a service of its own in a temporary directory, unless TAILOR_URL and TAILOR_API_KEY name a running one.
"""

import hashlib
import io
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import connect_sse
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from examples.service import own_service

DATA = Path(__file__).parent / "movie_reviews"
SPLITS = ("train", "validation", "test")
SENTENCES = (
    "I walked in expecting nothing and walked out grinning from ear to ear.",
    "Not even the popcorn could save this limp, endless sequel.",
)

console = Console()


def checked(response: httpx.Response) -> Any:
    """The body, or the service's own sentence."""
    if response.is_error:
        raise SystemExit(f"{response.request.method} {response.request.url}: {response.json()['error']['message']}")
    return response.json()


def upload(client: httpx.Client, split: str) -> str:
    """Upload one split and wait until the service has read it."""
    path = DATA / f"{split}.jsonl"
    with path.open("rb") as file:
        stored = checked(client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (path.name, file)}))
    while stored["status"] == "uploaded":
        time.sleep(0.2)
        stored = checked(client.get(f"/v1/files/{stored['id']}"))
    if stored["status"] == "error":
        raise SystemExit(f"{path.name}: {stored['status_details']}")
    report = checked(client.get(f"/v1/files/{stored['id']}/report"))["report"]
    labels = ", ".join(f"{count} {label}" for label, count in report["labels"].items())
    console.print(f"  {path.name:17} {stored['id']}  {report['rows']} rows: {labels}")
    return stored["id"]


def watch(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Show progress and evaluations as they come, until the job has ended."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    last = ""
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=None, speed="")
        while True:  # once, unless the connection is cut: then behind the last event that came
            with connect_sse(
                client, "GET", f"{path}/events", params={"stream": "true"}, headers={"Last-Event-ID": last}
            ) as source:
                if source.response.status_code == 204:
                    return checked(client.get(path))
                for sse in source.iter_sse():
                    last = sse.id
                    if sse.event == "done":
                        return checked(client.get(path))
                    said = sse.json()
                    if sse.event != "progress":
                        if not said["message"].partition(": ")[2].startswith("train "):
                            progress.console.print(f"  {said['message']}")
                    elif said["step"] is not None:
                        speed = f"{said['examples_per_second']:.0f} examples/s"
                        progress.update(bar, completed=said["step"], total=said["total_steps"], speed=speed)


def show_metrics(metrics: dict[str, Any]) -> None:
    """A small table of the test file's numbers, with their 95 % intervals, and the confusion matrix."""
    test = metrics["test"]
    table = Table(title="Test file, scored once with the best model")
    for heading in ("metric", "value", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in ("accuracy", "f1_macro", "precision_macro", "recall_macro"):
        interval = test["intervals"].get(name)
        table.add_row(name, f"{test[name]:.3f}", f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "")
    console.print(table)
    matrix = Table(title="Confusion matrix (rows: true label, columns: predicted)")
    matrix.add_column("")
    for label in test["labels"]:
        matrix.add_column(label, justify="right")
    for label, row in zip(test["labels"], test["confusion_matrix"], strict=True):
        matrix.add_row(label, *(str(count) for count in row))
    console.print(matrix)


def download(client: httpx.Client, model: str, directory: Path) -> None:
    """Fetch the whole model and check every file against its listed SHA-256."""
    archive = client.get(f"/v1/models/{model}/archive")
    archive.raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        tar.extractall(directory, filter="data")
    for file in checked(client.get(f"/v1/models/{model}/files"))["data"]:
        content = next(directory.rglob(file["path"])).read_bytes()
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise SystemExit(f"{file['path']} arrived damaged")
    console.print(f"Downloaded {len(archive.content) / 1e6:.0f} MB; every SHA-256 is as listed.")


def classify(directory: Path) -> None:
    """Load the model with plain Transformers and classify two sentences."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.inference_mode():
        logits = model(**tokenizer(list(SENTENCES), padding=True, return_tensors="pt")).logits
    for sentence, probabilities in zip(SENTENCES, logits.softmax(-1), strict=True):
        best = int(probabilities.argmax())
        console.print(f"  [bold]{model.config.id2label[best]}[/] ({probabilities[best]:.2f})  {sentence}")


def demonstrate(url: str, key: str, directory: Path) -> None:
    """The whole path, as any HTTP client would go it."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        console.print("[bold]Uploading the movie reviews")
        train, validation, test = (upload(client, split) for split in SPLITS)
        request = {
            "model": "starter/minilm-l6",
            "training_file": train,
            "validation_file": validation,
            "test_file": test,
            "suffix": "demo",
            "seed": 13,
        }
        job = checked(client.post("/v1/fine_tuning/jobs", json=request))
        console.print(f"[bold]Fine-tuning {job['model']} as {job['id']}")
        job = watch(client, job)
        if job["status"] != "succeeded":
            raise SystemExit(f"the job has {job['status']}: {(job['error'] or {}).get('message')}")
        show_metrics(job["metrics"])
        console.print(f"[bold]Downloading {job['fine_tuned_model']}")
        download(client, job["fine_tuned_model"], directory)
    console.print("[bold]Classifying with plain Transformers")
    classify(next(path.parent for path in directory.rglob("config.json")))


def main() -> None:
    """Run the demonstration and say how long it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tailor-demo-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL runs as a user of its own when this is root, and must get to its data
        if url := os.environ.get("TAILOR_URL"):
            demonstrate(url, os.environ["TAILOR_API_KEY"], directory / "model")
        else:
            with own_service(directory / "service") as service:
                demonstrate(service.url, service.key, directory / "model")
    console.print(f"Done in {time.monotonic() - started:.0f} s. `make serve` runs the service for you.")


if __name__ == "__main__":
    main()
