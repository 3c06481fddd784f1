"""Text classification: one label a text."""

import unicodedata
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
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from worker.protocol import Log
from worker.training.data import Batch, Examples, Records, overlapping_windows, tokenize
from worker.training.encoder import CLASSIFIERS, BaseModelFiles, load_weights, replaced_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Scores
from worker.training.metrics import classification_detail, classification_values

LISTED = 10  # labels or rows a message names before it says "and N more"


@dataclass(frozen=True)
class TextClassification:
    """Labels sorted, ids in that order. `label_weights` [labels] is None where every label counts the same."""

    label_names: tuple[str, ...]
    label_weights: NDArray[np.float32] | None
    label_smoothing: float
    seed: int

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
        """Labels are those of `train`. Raises UserError: one label only, an unseen label, weights for other labels."""
        train = splits["train"]
        counts = Counter(train.column("label"))
        if len(counts) < 2:
            raise UserError(
                "one_label_only",
                f"Every row of the training file {train.file.filename!r} has the same label, "
                f"{next(iter(counts), '')!r}: there is nothing to tell apart. Give rows of at least two labels.",
                "training_file",
            )
        for split, records in splits.items():
            _refuse_unseen_labels(split, records, counts)
        labels = tuple(sorted(counts))
        return cls(labels, _label_weights(class_weights, labels, counts), label_smoothing, seed)

    @property
    def labels(self) -> list[str]:
        """Labels in the order of their ids."""
        return list(self.label_names)

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Texts of validation and test that stand in training too, compared without case, width and white space."""
        first_row: dict[str, int] = {}
        for text, row in zip(splits["train"].column("text"), splits["train"].column("row"), strict=True):
            first_row.setdefault(_normalised(text), row)
        logs: list[Log] = []
        for split in ("validation", "test"):
            if split not in splits:
                continue
            texts = zip(splits[split].column("text"), splits[split].column("row"), strict=True)
            pairs = [(first_row[key], row) for text, row in texts if (key := _normalised(text)) in first_row]
            if pairs:
                shown = ", ".join(f"{theirs} (training {ours})" for ours, theirs in pairs[:LISTED])
                more = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
                noun = "row" if len(pairs) == 1 else "rows"
                logs.append(
                    Log(
                        f"{len(pairs)} {noun} of the {split} file stand in the training file too, which makes {split} "
                        f"results look better than they are: {noun} {shown}{more}.",
                        level="warn",
                        data={"code": "leakage", "split": split, "count": len(pairs), "rows": pairs[:LISTED]},
                    )
                )
        return logs

    @property
    def head_rate_factor(self) -> float:
        """A linear head learns well at the body's rate."""
        return 1.0

    def is_head(self, parameter: str) -> bool:
        """What stands beside the body."""
        return parameter.startswith(CLASSIFIERS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast."""
        return None

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The body with a fresh classification head, unless the base has one for exactly these labels."""
        model = load_weights(
            base,
            AutoModelForSequenceClassification,
            num_labels=len(self.label_names),
            id2label=dict(enumerate(self.label_names)),
            label2id={label: index for index, label in enumerate(self.label_names)},
            problem_type="single_label_classification",
        )
        trained_labels = [label for _, label in sorted((base.config.id2label or {}).items())]
        kept = base.has_head("ForSequenceClassification") and trained_labels == self.labels
        if (log := replaced_head(base, kept=kept)) is not None:
            tell(log)
        if base.has_head("ForSequenceClassification") and not kept:
            # As many labels but others: the head's rows would fit, and mean something else.
            fresh = cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(model.config))
            fresh.base_model.load_state_dict(model.base_model.state_dict())
            return fresh
        return model

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """A window weighs its label's weight divided by the number of windows of its text: a long text counts once."""
        windows = tokenize(records.column("text"), tokenizer, max_length)
        ids = {label: index for index, label in enumerate(self.label_names)}
        labels = np.array([ids[label] for label in records.column("label")], dtype=np.int64)
        weight = 1 / windows.windows_of
        if self.label_weights is not None:
            weight = weight * self.label_weights[labels]
        return Examples(
            inputs=windows.inputs,
            targets={"label": labels[windows.record]},
            weight=weight[windows.record].astype(np.float32),
            record=windows.record,
            pad_left=tokenizer.padding_side == "left",
        )

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """Long texts are read whole, in windows."""
        return overlapping_windows(records, examples, max_length)

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Cross-entropy with label smoothing; also the weighted count of right windows."""
        logits = model(**batch.inputs).logits
        labels = batch.targets["label"]
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        right = (logits.detach().argmax(dim=-1) == labels) * batch.weight
        return Objective((losses * batch.weight).sum(), {"accuracy": right.sum()})

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Logits of every window, [labels] each."""
        return list(model(**batch.inputs).logits.float().cpu().numpy())

    def score(self, records: Records, examples: Examples, predictions: Sequence[NDArray[np.float32]]) -> Scores:
        """Windows of a text are averaged. `loss` is the plain mean cross-entropy: no smoothing, no label weights."""
        windows = np.stack(predictions).astype(np.float64)
        count = np.bincount(examples.record)
        logits = np.zeros((len(count), windows.shape[1]))
        np.add.at(logits, examples.record, windows)
        logits /= count[:, None]
        truth = np.zeros(len(count), dtype=np.int64)
        truth[examples.record] = examples.dense("label")
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_likelihood = shifted[np.arange(len(truth)), truth] - np.log(np.exp(shifted).sum(axis=1))
        predicted = logits.argmax(axis=1)
        values = classification_values(truth, predicted) | {"loss": float(-log_likelihood.mean())}
        return Scores(values, classification_detail(truth, predicted, self.label_names, self.seed))

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """There is nothing to tune."""
        return self

    def usage(self) -> str:
        """The pipeline of the task."""
        return (
            "from transformers import pipeline\n\n"
            'classify = pipeline("text-classification", model="path/to/this/directory")\n'
            'classify("A text to classify.")'
        )

    def add_files(self, directory: Path, max_length: int) -> None:
        """Weights, configuration and tokenizer are enough."""


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _refuse_unseen_labels(split: str, records: Records, seen: Mapping[str, int]) -> None:
    first_row: dict[str, int] = {}
    for label, row in zip(records.column("label"), records.column("row"), strict=True):
        if label not in seen:
            first_row.setdefault(label, row)
    if not first_row:
        return
    listed = ", ".join(f"{label!r} (row {row})" for label, row in list(first_row.items())[:LISTED])
    more = f" and {len(first_row) - LISTED} more" if len(first_row) > LISTED else ""
    raise UserError(
        "unseen_labels",
        f"The {split} file {records.file.filename!r} has labels that the training file never shows: {listed}{more}. "
        f"Labels of the training file: {', '.join(repr(label) for label in sorted(seen)[: LISTED * 2])}. "
        "Add training rows for them, or correct or remove those rows.",
        f"{split}_file",
        {"labels": first_row, "allowed": sorted(seen), "line": next(iter(first_row.values()))},
    )


def _label_weights(
    asked: str | Mapping[str, float] | None, labels: Sequence[str], counts: Mapping[str, int]
) -> NDArray[np.float32] | None:
    """`balanced`: rows / (labels x rows of the label), King & Zeng 2001 as in scikit-learn."""
    if asked is None:
        return None
    if isinstance(asked, str):
        rows = sum(counts.values())
        return np.array([rows / (len(labels) * counts[label]) for label in labels], dtype=np.float32)
    missing, unknown = sorted(set(labels) - set(asked)), sorted(set(asked) - set(labels))
    if missing or unknown:
        parts = [f"names labels the data do not have: {unknown[:LISTED]}"] if unknown else []
        parts += [f"leaves out labels the data have: {missing[:LISTED]}"] if missing else []
        raise UserError(
            "class_weights_mismatch",
            f"class_weights {' and '.join(parts)}. Give one weight for each of {list(labels)}, or 'balanced'.",
            "hyperparameters.class_weights",
            {"allowed": list(labels)},
        )
    return np.array([asked[label] for label in labels], dtype=np.float32)
