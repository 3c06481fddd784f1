"""The README's walk-through with the official `openai` SDK, as a program.

python examples/quickstart.py http://127.0.0.1:8000 ~/.local/share/tailor/api_key
"""

import argparse
import tarfile
import tempfile
from pathlib import Path

import httpx
from openai import OpenAI, Stream
from openai.types.fine_tuning import FineTuningJobEvent

DATA = Path(__file__).parent / "movie_reviews"


def main() -> None:
    """Upload, fine-tune, watch, download, classify."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where `make serve` listens")
    parser.add_argument("key", type=Path, help="the file with the API key")
    options = parser.parse_args()
    client = OpenAI(base_url=f"{options.url}/v1", api_key=options.key.expanduser().read_text().strip())

    files: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        with (DATA / f"{split}.jsonl").open("rb") as content:
            file = client.files.create(file=content, purpose="fine-tune")
        file = client.files.wait_for_processing(file.id, poll_interval=0.5)
        if file.status != "processed":
            raise SystemExit(f"{split}: {file.status}: {getattr(file, 'status_details', None)}")
        files[split] = file.id

    job = client.fine_tuning.jobs.create(
        model="starter/minilm-l6",
        training_file=files["train"],
        validation_file=files["validation"],
        seed=13,
        suffix="quickstart",
        extra_body={"test_file": files["test"]},
    )
    events = client.get(
        f"/fine_tuning/jobs/{job.id}/events",
        options={"params": {"stream": True}},
        cast_to=FineTuningJobEvent,
        stream=True,
        stream_cls=Stream[FineTuningJobEvent],
    )
    for event in events:  # live, until the job has ended
        if event.message:  # else it tells progress
            print(event.message)
    job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded" or job.fine_tuned_model is None:
        raise SystemExit(f"the job has {job.status}: {job.error}")

    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "model.tar"
        archive.write_bytes(client.get(f"/models/{job.fine_tuned_model}/archive", cast_to=httpx.Response).content)
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
        from transformers import pipeline

        config = next(Path(directory).rglob("config.json"))
        classify = pipeline("text-classification", model=str(config.parent))
        print(classify("A warm, funny and quietly devastating film."))


if __name__ == "__main__":
    main()
