"""Token classification: a tag for every word, with a conditional random field or without."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.token_classification import TokenClassificationOptions
from app.catalog.unknown_labels import unknown_labels
from app.model_files.tailor_made import WINDOW
from worker.heads.crf import add_modeling_file, trained_class
from worker.protocol import Log
from worker.training.classifier import load_classifier
from worker.training.data import Batch, Examples, Records, overlapping_windows
from worker.training.encoder import CLASSIFIERS, BaseModelFiles, trained_head
from worker.training.entities import entity_detail, entity_values
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.leakage import find_leakage
from worker.training.outcomes import Baseline, Outcomes
from worker.training.sequences import Chain, best_paths, confidences, negative_log_likelihood
from worker.training.tag_outcomes import tag_outcomes
from worker.training.words import encode_words, stitch

LISTED = 10  # types or rows a message names before it says "and N more"
CRF_RATE_FACTOR = 10.0
HEAD = "ForTokenClassification"


@dataclass(frozen=True)
class WordScores:
    """Logits of a window's words [words, labels], and the field over them where there is one."""

    logits: NDArray[np.float32]
    chain: Chain | None


@dataclass(frozen=True)
class TokenClassification:
    """`types` of entities, sorted. Ids: O, then B and I of each type."""

    types: tuple[str, ...]
    head: str
    label_smoothing: float
    seed: int
    tags: tuple[str, ...] = ()  # in another order, which a model that was trained elsewhere may have

    @classmethod
    def from_records(
        cls,
        options: BaseModel,
        splits: Mapping[str, Records],
        *,
        label_smoothing: float,
        class_weights: str | Mapping[str, float] | None,
        seed: int,
    ) -> Self:
        """Types are those of `train`. Raises UserError: no entity at all, an unseen type, parameters of other heads."""
        head = cast(TokenClassificationOptions, options).head
        if class_weights is not None:
            raise UserError(
                "class_weights_not_for_task",
                "class_weights weigh texts, and token-classification has tags of words. Leave class_weights out.",
                "hyperparameters.class_weights",
            )
        if label_smoothing and head == "crf":
            raise UserError(
                "label_smoothing_not_for_crf",
                f"label_smoothing is {label_smoothing}, but a conditional random field is trained by the likelihood of "
                'whole sequences. Leave label_smoothing out, or ask for the task\'s option "head": "linear".',
                "hyperparameters.label_smoothing",
            )
        train = splits["train"]
        types = _types_with_rows(train)
        if not types:
            raise UserError(
                "no_entities",
                f"No word of the training file {train.file.filename!r} has another tag than O: there is nothing to "
                "learn. Give sentences with entities.",
                "training_file",
            )
        for split, records in splits.items():
            _refuse_unseen_types(split, records, types)
        return cls(tuple(sorted(types)), head, label_smoothing, seed)

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """Tags are those of the head, in its order; a model with a field says so in its configuration."""
        tags = trained_head(base, HEAD, "token-classification")
        types = tuple(sorted({tag[2:] for tag in tags if tag != "O"}))
        if missing := {"O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")} - set(tags):
            raise UserError(
                "labels_not_iob2",
                f"Model {base.id!r} has the labels {', '.join(map(repr, tags[: LISTED * 2]))}, which are no IOB2 tags: "
                f"{', '.join(map(repr, sorted(missing)[:LISTED]))} is missing. Fine-tune it on the task first, and "
                "evaluate the result.",
                "model",
            )
        found = Counter(tag[2:] for sentence in records.column("tags") for tag in sentence if tag.startswith("B-"))
        unknown = unknown_labels(records.file.filename, found, base.id, types, "entity types")
        if unknown is not None:
            raise UserError(unknown.code, unknown.message, "file", unknown.data)
        said: dict[str, Any] = json.loads((base.directory / "config.json").read_text("utf-8"))
        return cls(types, "crf" if WINDOW in said else "linear", 0.0, seed, tuple(tags))

    @property
    def labels(self) -> list[str]:
        """Tags in the order of their ids."""
        if self.tags:
            return list(self.tags)
        return ["O", *(f"{prefix}-{kind}" for kind in self.types for prefix in "BI")]

    @property
    def head_rate_factor(self) -> float:
        """A field that starts from nothing moves too slowly at a rate that suits a pretrained body."""
        return CRF_RATE_FACTOR if self.head == "crf" else 1.0

    def is_head(self, parameter: str) -> bool:
        """The classifier and the field."""
        return parameter.startswith(CLASSIFIERS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast."""
        return None

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Sentences that stand in two splits."""
        return find_leakage(splits, lambda records: list(map(" ".join, records.column("tokens"))))

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The body with a fresh head, but for the tags that the base's head has: these keep what was learned of them.

        With a field these are also the scores of one such tag after another.
        """
        loader = trained_class(base.config) if self.head == "crf" else AutoModelForTokenClassification
        return load_classifier(base, loader, HEAD, self.labels, tell, outside="O")

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Windows with the places of their words' first pieces. Every word counts once, in however many windows."""
        ids = {tag: index for index, tag in enumerate(self.labels)}
        tags = [[ids[tag] for tag in sentence] for sentence in records.column("tags")]
        return encode_words(records.column("tokens"), tags, tokenizer, max_length)

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """Long sentences are read whole, in windows."""
        return overlapping_windows(records, examples, max_length, "sentences")

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Negative log-likelihood of a window's tags, per word; also the weighted share of right words."""
        words, tags = _places(batch), batch.targets["tag"]
        here = words >= 0
        if self.head == "crf":
            output = model(**batch.inputs, words=words, tags=tags)
            logits, losses = output.logits, output.loss
        else:
            logits = _at(model(**batch.inputs).logits, words)
            losses = functional.cross_entropy(
                logits.transpose(1, 2), tags, reduction="none", label_smoothing=self.label_smoothing
            )
            losses = (losses * here).sum(dim=1)
        share = batch.weight / here.sum(dim=1)  # of the window's words, those that count in it
        right = ((logits.detach().argmax(dim=-1) == tags) & here).sum(dim=1)
        predictions = Predictions("softmax", logits, share[:, None] * here)
        return Objective((losses * share).sum(), {"accuracy": (right * share).sum()}, (predictions,))

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[WordScores]:
        """Logits of the words of every window."""
        words = _places(batch)
        chain: Chain | None = None
        if self.head == "crf":
            logits = model(**batch.inputs, words=words).logits
            chain = Chain.of(model.crf)
        else:
            logits = _at(model(**batch.inputs).logits, words)
        counts = (words >= 0).sum(dim=1).tolist()
        return [WordScores(row[:count], chain) for row, count in zip(logits.float().cpu().numpy(), counts, strict=True)]

    def score(self, records: Records, examples: Examples, predictions: Sequence[WordScores]) -> Scores:
        """Windows of a sentence are put together word by word, then decoded. `loss` is per word, without smoothing."""
        truth: list[list[str]] = records.column("tags")
        logits, paths = self._decode(truth, examples, predictions)
        predicted = self._named(paths)
        ids = {tag: index for index, tag in enumerate(self.labels)}
        tags = [[ids[tag] for tag in sentence] for sentence in truth]
        losses = negative_log_likelihood(logits, tags, predictions[0].chain)
        words = max(1, sum(map(len, truth)))
        values = entity_values(truth, predicted) | {"loss": losses / words}
        return Scores(values, entity_detail(truth, predicted, self.types, self.seed))

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[WordScores]) -> Outcomes:
        """See tag_outcomes; with a field, confidences are marginals."""
        truth: list[list[str]] = records.column("tags")
        logits, paths = self._decode(truth, examples, predictions)
        certain = confidences(logits, paths, predictions[0].chain, self.labels)
        return tag_outcomes(truth, self._named(paths), certain)

    def baseline(self, records: Records) -> Baseline:
        """No entity at all: what accuracy over words is to be compared with."""
        truth: list[list[str]] = records.column("tags")
        values = entity_values(truth, [["O"] * len(sentence) for sentence in truth])
        return Baseline("no_entities", "Every word is O, outside of all entities.", values)

    def _decode(
        self, truth: Sequence[Sequence[str]], examples: Examples, predictions: Sequence[WordScores]
    ) -> tuple[list[NDArray[np.float32]], list[list[int]]]:
        """Logits of the words of every sentence, and the ids of its tags."""
        logits = stitch([prediction.logits for prediction in predictions], examples, list(map(len, truth)))
        return logits, best_paths(logits, predictions[0].chain, self.labels)

    def _named(self, paths: Sequence[Sequence[int]]) -> list[list[str]]:
        labels = self.labels
        return [[labels[index] for index in path] for path in paths]

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """Nothing is tuned on the validation file."""
        return self

    def usage(self) -> str:
        """The pipeline of the task; a field needs the modelling file that lies beside the weights."""
        if self.head == "linear":
            return (
                "from transformers import pipeline\n\n"
                'tag = pipeline("token-classification", model="path/to/this/directory", aggregation_strategy="first")\n'
                'tag(["The", "words", "of", "a", "sentence"], is_split_into_words=True)'
            )
        return (
            "from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline\n\n"
            'directory = "path/to/this/directory"\n'
            'tag = pipeline("token-classification", model=directory, trust_remote_code=True)  # runs modeling_crf.py\n'
            'tag("The words of a sentence.")\n\n'
            "model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)\n"
            'model.tag([["The", "words", "of", "a", "sentence"]], AutoTokenizer.from_pretrained(directory))'
        )

    def add_files(self, directory: Path, max_length: int) -> None:
        """A field brings its own modelling file."""
        if self.head == "crf":
            add_modeling_file(directory, max_length)


def _places(batch: Batch) -> torch.Tensor:
    """Where the words' first pieces stand in the batch, -1 for padding."""
    places = batch.targets["place"]
    begins = batch.inputs["attention_mask"].argmax(dim=1)  # 0, unless padding stands on the left
    return torch.where(places >= 0, places + begins[:, None], places)


def _at(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Logits of words [batch, words, labels] from those of pieces, by the places of the words' first pieces."""
    places = words.clamp(min=0)[:, :, None].expand(-1, -1, logits.shape[2])
    return logits.gather(1, places).float()


def _types_with_rows(records: Records) -> dict[str, int]:
    """The types of a split, each with the first row that has it."""
    found: dict[str, int] = {}
    for tags, row in zip(records.column("tags"), records.column("row"), strict=True):
        for tag in tags:
            if tag != "O":
                found.setdefault(tag[2:], row)
    return found


def _refuse_unseen_types(split: str, records: Records, seen: Mapping[str, int]) -> None:
    unseen = {kind: row for kind, row in _types_with_rows(records).items() if kind not in seen}
    if not unseen:
        return
    listed = ", ".join(f"{kind!r} (row {row})" for kind, row in list(unseen.items())[:LISTED])
    more = f" and {len(unseen) - LISTED} more" if len(unseen) > LISTED else ""
    raise UserError(
        "unseen_labels",
        f"The {split} file {records.file.filename!r} has entities of types that the training file never shows: "
        f"{listed}{more}. Types of the training file: {', '.join(repr(kind) for kind in sorted(seen)[: LISTED * 2])}. "
        "Add training rows for them, or correct or remove those rows.",
        f"{split}_file",
        {"labels": unseen, "allowed": sorted(seen), "line": next(iter(unseen.values()))},
    )
