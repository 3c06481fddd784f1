"""Continued pretraining: what it comes to, and what reading the vocabulary at predicted places only is worth.

`python -m benchmarks.language_modelling` measures a training step of the starter model with its head at the masked
tokens only against one with logits of every token, as Transformers' own loss has them, in turns; then it prepares
abstracts of biomedical papers as an upload would be, trains in this process and prints the perplexity of held-out
abstracts before and after. `--speed` and `--perplexity` do one of the two.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.tasks import TASKS
from app.registry.base_models import STARTER, starter_directory
from benchmarks.accuracy import DATA
from benchmarks.cells import Training, prepared, train
from worker.child import ENVIRONMENT

ABSTRACTS = DATA / "corpus" / "biomedical_abstracts"
TASK = "fill-mask"
ASKED = {"n_epochs": 1, "batch_size": 16, "learning_rate": 5e-4, "max_length": 128}
SPEED_BATCH, SPEED_LENGTH, SPEED_STEPS = 16, 128, 12


def abstracts(split: str) -> list[str]:
    """Those of a file, as lines of JSON. An empty line is between two."""
    texts = (ABSTRACTS / f"{split}.txt").read_text("utf-8").split("\n\n")
    return [json.dumps({"text": text.strip()}) + "\n" for text in texts]


def measure_speed(run_dir: Path) -> None:
    """Print the time of a step both ways; its forward and backward pass, since the rest is the same."""
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
    import torch

    from worker.tasks.fill_mask import FillMask
    from worker.training.data import collate, read_records
    from worker.training.device import keep_freed_memory
    from worker.training.encoder import open_base

    base_directory = starter_directory()
    assert base_directory is not None
    keep_freed_memory()
    base = open_base(STARTER, base_directory, TASKS[TASK].model_types)
    task = FillMask(0.15, whole_words=False, packing=True, label_smoothing=0.0, seed=1)
    torch.manual_seed(1)
    model = task.load_model(base, lambda _: None).train()
    (run_dir / "data").mkdir()
    records = read_records("train", prepared(run_dir, "train", {"type": TASK}, abstracts("train")), run_dir)
    examples = task.encode(records, base.tokenizer, SPEED_LENGTH)
    seconds: dict[str, list[float]] = {"masked tokens only": [], "every token": []}
    for step in range(SPEED_STEPS + 1):
        rows = torch.arange(step * SPEED_BATCH, (step + 1) * SPEED_BATCH).numpy() % examples.count
        for way, times in seconds.items():
            batch = collate(examples, rows, torch.device("cpu"), 0)
            began = time.perf_counter()
            if way == "every token":  # Transformers' own loss, which ignores those that are not masked
                labels = torch.full_like(batch.inputs["input_ids"], -100)
                labels.view(-1)[batch.targets["place"]] = batch.targets["token"]
                loss = model(**batch.inputs, labels=labels).loss
            else:
                loss = task.objective(model, batch).loss / batch.weight.sum()
            loss.backward()
            if step:  # the first one sets up what later ones use
                times.append(time.perf_counter() - began)
            model.zero_grad()
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, median in medians.items():
        print(f"{way}: {1000 * median:.0f} ms a step of {SPEED_BATCH} x {SPEED_LENGTH} tokens, median of {SPEED_STEPS}")
    print(f"every token takes {medians['every token'] / medians['masked tokens only']:.2f} times as long")
    logits = SPEED_BATCH * SPEED_LENGTH * len(base.tokenizer) * 4 / 2**20
    print(f"logits: {0.15 * logits:.0f} MiB instead of {logits:.0f} MiB, and as much again for their gradient")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="only the step")
    parser.add_argument("--perplexity", action="store_true", help="only the job")
    parser.add_argument("--hyperparameters", default="{}", help="JSON, over those of the figure in the README")
    parser.add_argument("--task", default="{}", help="JSON: further options of the task")
    parser.add_argument("--seed", type=int, default=13)
    asked = parser.parse_args()
    if not ABSTRACTS.is_dir():
        print("The data are not beside the checkout.")
        return
    if not asked.perplexity:
        with tempfile.TemporaryDirectory() as directory:
            measure_speed(Path(directory))
    if not asked.speed:
        hyperparameters = Hyperparameters.model_validate(ASKED | json.loads(asked.hyperparameters))
        splits = {split: abstracts(split) for split in ("train", "validation")}
        job = Training({"type": TASK} | json.loads(asked.task), splits, hyperparameters, "perplexity")
        with tempfile.TemporaryDirectory() as directory:
            metrics = train(job, asked.seed, Path(directory))
        before, after = metrics["before_training"], metrics["validation"]
        low, high = after["intervals"]["perplexity"]
        print(
            f"perplexity {before['perplexity']:.1f} before, {after['perplexity']:.1f} ({low:.1f} to {high:.1f}) after; "
        )
        print(f"token accuracy {before['token_accuracy']:.3f} before, {after['token_accuracy']:.3f} after")


if __name__ == "__main__":
    main()
