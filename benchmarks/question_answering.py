"""Question answering with the starter model: SQuAD v1.1, 4,508 training questions, 2,000 of validation as test.

`python -m benchmarks.question_answering` prepares the files as an upload would be, trains in this process and prints EM
and F1 with their intervals. `--choose` trains on a part of the training file and scores the articles that are left: for
choosing hyperparameters (as JSON in `--hyperparameters`) without a look at the test questions.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA
from benchmarks.cells import Training, read_lines, train

SQUAD = DATA / "qa" / "squad_v1"
TEST_QUESTIONS = 2000
HELD_OUT_QUESTIONS = 600
ASKED = {"n_epochs": 2, "batch_size": 8, "learning_rate": 2e-4, "max_length": 384}
ADAPTATION: dict[str, dict[str, Any]] = {"ema": {}}


def splits(*, choose: bool) -> dict[str, list[str]]:
    """Lines of `train` and `test`; with `choose` the test questions are some articles of the training file."""
    train = read_lines(SQUAD / "train.jsonl")
    if not choose:
        return {"train": train, "test": read_lines(SQUAD / "validation.jsonl")[:TEST_QUESTIONS]}
    titles = sorted({json.loads(line)["title"] for line in train})
    random.Random(1).shuffle(titles)
    test: list[str] = []
    while len(test) < HELD_OUT_QUESTIONS:
        title = titles.pop()
        test += [line for line in train if json.loads(line)["title"] == title]
    return {"train": [line for line in train if json.loads(line)["title"] in titles], "test": test}


def main() -> None:
    """Run the job and print its scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choose", action="store_true", help="score held-out articles of the training file instead")
    parser.add_argument("--hyperparameters", default="{}", help="JSON, over those of the figure in the README")
    parser.add_argument("--adaptation", default=json.dumps(ADAPTATION), help="JSON, in place of the figure's")
    parser.add_argument("--seed", type=int, default=13)
    asked = parser.parse_args()
    if not SQUAD.is_dir():
        print("The data are not beside the checkout.")
        return
    hyperparameters = Hyperparameters.model_validate(ASKED | json.loads(asked.hyperparameters))
    training = Training(
        {"type": "question-answering"},
        splits(choose=asked.choose),
        hyperparameters,
        "f1",
        adaptation=json.loads(asked.adaptation),
    )
    with tempfile.TemporaryDirectory() as directory:
        scores = train(training, asked.seed, Path(directory))["test"]
    for metric, reach in (("exact_match", 0.55), ("f1", 0.68)):
        low, high = scores["intervals"][metric]
        print(
            f"{'held out' if asked.choose else 'test'} {metric} {scores[metric]:.4f} ({low:.4f} to {high:.4f}), ",
            end="",
        )
        print(f"reach {reach}")


if __name__ == "__main__":
    main()
