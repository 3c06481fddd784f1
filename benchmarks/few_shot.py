"""`python -m benchmarks.few_shot`: what methods come to on few labelled texts, 100 of SST-2 with the starter model.

Each seed draws its own texts. All methods train for as many steps, so that copies cost no time; the weights are the
last step's. Synonyms are Open English WordNet's. The starter has no head for masked tokens: what fills masks is made of
it first, by a job of `fill-mask` on the 6,920 training sentences without their labels, which the other rows never see.
What `reviews first` begins with has learned the same two labels on 1,700 reviews of DVDs (Blitzer et al. 2007).
`--models` names the folder that has these two models, or gets them. `--choose` scores the validation sentences, to
choose settings by; `--results` names a file that finished trainings are added to, so that a run can be stopped.
"""

import argparse
import json
import random
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA
from benchmarks.cells import Adaptation, Results, Training, kept_model, read_lines, run_cells, train
from benchmarks.domains import REVIEWS as BLITZER
from benchmarks.domains import Cut

SST2 = DATA / "sentiment" / "sst2"
LEXICON = DATA / "lexicon" / "oewn_en" / "synonyms.tsv"
TASK = {"type": "text-classification", "problem_type": "single_label_classification"}
SETTINGS = {"max_steps": 150, "n_epochs": 100, "batch_size": 16, "learning_rate": 1e-4}
MASKED = Hyperparameters(n_epochs=5, batch_size=16, learning_rate=5e-4, max_length=128)
REVIEWS = Hyperparameters(n_epochs=3, batch_size=32, learning_rate=1e-4, max_length=128)
NONE, CONTEXTUAL, REVIEWS_FIRST = "none", "contextual", "reviews first"


def augmented(*types: str, **options: Any) -> Adaptation:
    """Copies by these operations, in turn."""
    operations = [{"type": name} | options for name in types]
    lexicon = {"lexicon_file": "file-1"} if {"synonym", "insertion"} & set(types) else {}
    return {"augmentation": {"operations": operations, "copies": 8, "control": False} | lexicon}


METHODS: dict[str, Adaptation] = {
    NONE: {},
    "synonym": augmented("synonym"),
    "EDA": augmented("synonym", "insertion", "swap", "deletion"),
    CONTEXTUAL: augmented("contextual", model="masked"),
    "prototype head": {"prototype": {}},
    REVIEWS_FIRST: {},
    "r_drop": {"r_drop": {}},
    "swa": {"swa": {}},
    "frozen": {"freeze": {"layers": ["encoder"]}},
    "frozen, prototype head": {"freeze": {"layers": ["encoder"]}, "prototype": {}},
}


def synonyms(texts: Iterable[str]) -> list[str]:
    """Pairs of the lexicon whose word is in the texts, as lines to upload."""
    known = {word for text in texts for word in text.casefold().split()}
    pairs: dict[tuple[str, str], None] = {}
    for line in read_lines(LEXICON)[1:]:
        lemmas = [lemma.replace("_", " ") for lemma in re.split(r"[|/]", line.rstrip("\n").split("\t")[2])]
        for word in lemmas:
            if set(word.casefold().split()) <= known:
                pairs |= dict.fromkeys((word, other) for other in lemmas if other != word)
    return [json.dumps({"source": word, "target": other}) + "\n" for word, other in pairs]


def make_masked_model(directory: Path) -> None:
    """A model that fills masks in sentences of films, left in `directory/artifact`."""
    texts = [json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in read_lines(SST2 / "train.jsonl")]
    held_out = [json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in read_lines(SST2 / "validation.jsonl")]
    job = Training({"type": "fill-mask"}, {"train": texts, "validation": held_out}, MASKED, "perplexity")
    metrics = train(job, 13, directory)
    print(f"masked model: perplexity {metrics['validation']['perplexity']:.1f} on the validation sentences", flush=True)


def make_review_model(directory: Path) -> None:
    """A model that tells good reviews of DVDs from bad ones, left in `directory/artifact`."""
    splits = {split: Cut().reviews("dvd", split) for split in ("train", "validation")}
    splits["test"] = read_lines(SST2 / "test.jsonl")
    metrics = train(Training(TASK, splits, REVIEWS, "accuracy"), 13, directory)
    accuracy = {split: metrics[split]["accuracy"] for split in ("validation", "test")}
    print(
        f"model of reviews: accuracy {accuracy['validation']:.4f} on its validation reviews, {accuracy['test']:.4f} on "
        "SST-2's test sentences, without a label of theirs",
        flush=True,
    )


FURTHER_MODELS = {CONTEXTUAL: make_masked_model, REVIEWS_FIRST: make_review_model}  # by the method that needs one


def scorer(
    settings: Hyperparameters, rows: int, models: Path, *, choose: bool
) -> Callable[[Mapping[str, Any], Path], float]:
    """What trains a cell and gives its accuracy."""

    def score(cell: Mapping[str, Any], directory: Path) -> float:
        lines = read_lines(SST2 / "train.jsonl")
        sampled = random.Random(cell["seed"]).sample(lines, rows)
        adaptation = METHODS[cell["method"]]
        asked = adaptation.get("augmentation", {})
        texts = [json.loads(line)["text"] for line in sampled]
        files = {"augmentation.lexicon_file": ({"type": "translation"}, synonyms(texts))}
        held_out = read_lines(SST2 / ("validation.jsonl" if choose else "test.jsonl"))
        job = Training(
            TASK,
            {"train": sampled, "test": held_out},
            settings,
            "accuracy",
            adaptation=adaptation,
            files=files if "lexicon_file" in asked else {},
            models={"augmentation.operations.0.model": made(CONTEXTUAL)} if cell["method"] == CONTEXTUAL else {},
        )
        base = made(REVIEWS_FIRST) if cell["method"] == REVIEWS_FIRST else None
        return train(job, cell["seed"], directory / "run", base)["test"]["accuracy"]

    def made(method: str) -> Path:
        return kept_model(models / method, FURTHER_MODELS[method])

    return score


def main() -> None:
    """Train with each method on each seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--hyperparameters", type=json.loads, default={}, help="JSON that overrides the settings")
    parser.add_argument("--copies", type=int, help="of a record, in place of 8")
    parser.add_argument("--models", type=Path, help="folder that has the further models, or gets them")
    parser.add_argument("--choose", action="store_true", help="score the validation sentences instead of the test's")
    parser.add_argument("--results", type=Path, help="file of finished trainings")
    asked = parser.parse_args()
    if not (SST2.is_dir() and LEXICON.is_file() and BLITZER.is_dir()):
        raise SystemExit("SST-2, the lexicon and the reviews are not beside the checkout")
    if asked.copies is not None:
        for adaptation in METHODS.values():
            for options in adaptation.values():
                if "copies" in options:
                    options["copies"] = asked.copies  # pyright: ignore[reportIndexIssue]
    settings = Hyperparameters.model_validate(SETTINGS | asked.hyperparameters)
    results = Results.of(asked.results)
    setting = json.dumps(asked.hyperparameters | {"copies": asked.copies, "rows": asked.rows, "choose": asked.choose})
    cells = [
        {"method": method, "seed": seed, "setting": setting} for seed in range(asked.seeds) for method in asked.only
    ]
    with tempfile.TemporaryDirectory() as directory:
        models: Path = asked.models or Path(directory)
        run_cells(results, cells, scorer(settings, asked.rows, models, choose=asked.choose))

    def scores(method: str) -> list[float]:
        return [results.score(cell) for cell in cells if cell["method"] == method]

    where = "validation" if asked.choose else "test"
    table = Table(title=f"SST-2, {asked.rows} training texts, {settings.max_steps} steps, {where} accuracy")
    for heading in ("method", "mean", "sd", f"to {NONE}", *(f"seed {seed}" for seed in range(asked.seeds))):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in asked.only:
        found = scores(method)
        mean, deviation = statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0
        ahead = f"{100 * (mean - statistics.mean(scores(NONE))):+.1f}" if NONE in asked.only else "-"
        table.add_row(method, f"{mean:.4f}", f"{deviation:.4f}", ahead, *(f"{score:.4f}" for score in found))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
