"""Prototypes (Snell et al. 2017): the output layer of a new head begins at the class means of what it reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from transformers import PreTrainedModel

from app.catalog.adaptation.prototype import PrototypeOptions
from worker.protocol import Log
from worker.training.classifier import output_layer
from worker.training.data import Examples, collate
from worker.training.encoder import head_labels
from worker.training.failures import UserError
from worker.training.features import TOKENS_PER_BATCH, Site
from worker.training.interfaces import Task
from worker.training.method import Method
from worker.training.prototypes import ClassMeans, Floats, head_of, likeliest_scale
from worker.training.sampler import evaluation_batches
from worker.training.watch import Watch

HEADS = ("ForSequenceClassification", "ForTokenClassification")
SCALED_ON = 1000  # windows that the scale is chosen on
WITHOUT_CLASSES = {"regression": "a number", "multi_label_classification": "any number of labels for each text"}


@dataclass
class Prototype(Method):
    """Sets the output layer once, before the first step.

    Features are the output layer's inputs without dropout: with a head of several layers, what its fresh lower layers
    make of the body's output, which is a random projection of it.
    """

    options: PrototypeOptions
    told: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(PrototypeOptions, options))

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Raises UserError where texts have no one class each."""
        predicted = WITHOUT_CLASSES.get(str(getattr(model.config, "problem_type", None)))
        if predicted is not None:
            raise UserError(
                "prototype_without_classes",
                "adaptation.prototype begins at the mean of each label's texts, where every text has one label; this "
                f"job predicts {predicted}. Leave prototype out.",
                "adaptation.prototype",
            )
        return model

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """Set the head's rows. Raises UserError for a base model whose head has learned these very labels."""
        labels = site.task.labels or []
        model = next(module for module in site.model.modules() if isinstance(module, PreTrainedModel))
        kind = next(suffix for suffix in HEADS if any(one.__name__.endswith(suffix) for one in type(model).__mro__))
        if set(labels) <= set(head_labels(site.materials.base, kind)):
            raise UserError(
                "prototype_head_is_trained",
                f"Model {site.materials.base.id!r} has a head that was trained for these labels, and "
                "adaptation.prototype would begin anew. Leave prototype out, or start from another model.",
                "adaptation.prototype",
            )
        if site.resumed:
            return
        name, layer = output_layer(model)
        train = site.splits()[0]
        sampled = np.zeros(train.count, dtype=np.bool_)
        chosen = np.random.default_rng(site.materials.seed).permutation(train.count)[:SCALED_ON]
        sampled[chosen] = True
        found = ClassMeans.none(len(labels), layer.in_features)
        kept: list[tuple[Floats, NDArray[np.int64], Floats]] = []
        try:
            model.set_submodule(name, torch.nn.Identity())  # what is predicted then is what the layer reads
            for window, features, tags, weights in _features(site, train):
                found.add(features, tags, weights)
                if sampled[window]:
                    kept.append((features, tags, weights))
        finally:
            model.set_submodule(name, layer)
        rows, tags, weights = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        bias = cast("torch.nn.Parameter | None", layer.bias)
        scale = likeliest_scale(found, rows, tags, weights, bias=bias is not None)
        head = head_of(found, scale.value, bias=bias is not None)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(head.weight))
            if bias is not None and head.bias is not None:
                bias.copy_(torch.from_numpy(head.bias))
        self._tell(site, labels, found, scale.accuracy)

    def _tell(self, site: Site, labels: Sequence[str], found: ClassMeans, accuracy: float | None) -> None:
        absent = [label for label, weight in zip(labels, found.weights.tolist(), strict=True) if weight == 0]
        self.told = {"labels": len(labels), "leave_one_out_accuracy": accuracy, "without_examples": absent}
        judged = "" if accuracy is None else f"; by the means of the others, {accuracy:.1%} of them are told right"
        site.materials.emit(
            Log(
                f"The head begins at the means of what the model makes of the training examples of {len(labels)} "
                f"labels{judged}",
                data={"code": "prototypes", **self.told},
            )
        )

    def report(self) -> dict[str, Any]:
        """How well the means alone classify, where this run computed them."""
        return self.told


def _features(site: Site, train: Examples) -> Iterator[tuple[int, Floats, NDArray[np.int64], Floats]]:
    """Of each window: its number, and what stands for its text or words [rows, width], with labels and weights."""
    watch = Watch("computing prototypes", train.count, site.materials.stop, site.materials.emit)
    site.model.eval()
    try:
        for windows in evaluation_batches(train.lengths, TOKENS_PER_BATCH):
            watch.check()
            with torch.inference_mode():
                predicted = site.task.predict(site.model, collate(train, windows, site.device))
            for window, prediction in zip(windows.tolist(), predicted, strict=True):
                yield window, *_labelled(train, window, prediction)
            watch.add(len(windows))
    finally:
        site.model.train()


def _labelled(train: Examples, window: int, prediction: Any) -> tuple[Floats, NDArray[np.int64], Floats]:
    if "tag" in train.targets:
        here = train.ragged("word").row(window) >= 0
        tags = train.ragged("tag").row(window)[here].astype(np.int64)
        return prediction.logits[here].astype(np.float64), tags, np.ones(len(tags))
    label = train.dense("label")[window : window + 1].astype(np.int64)
    return prediction[None].astype(np.float64), label, train.weight[window : window + 1].astype(np.float64)
