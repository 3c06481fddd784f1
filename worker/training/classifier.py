"""Models with an output for each label, and what becomes of a trained head when a job has other labels."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from worker.protocol import Log
from worker.training.encoder import CLASSIFIERS, BaseModelFiles, head_labels, load_weights, replaced_head

TOLD_LABELS = 100  # most that an event lists
FIELD = "crf"  # the module of a conditional random field, whose scores are of labels and of pairs of labels


def keeps_head(base: BaseModelFiles, suffix: str, labels: list[str]) -> bool:
    """Whether the base has a head `suffix` for exactly these labels, in whatever order."""
    return sorted(head_labels(base, suffix)) == sorted(labels)


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """The layer with an output for each label, and its name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and f"{name}.".startswith(CLASSIFIERS)
    ][-1]


def load_classifier(
    base: BaseModelFiles,
    auto_class: Any,
    suffix: str,
    labels: list[str],
    tell: Callable[[Log], None],
    *,
    outside: str | None = None,
    **config_changes: Any,
) -> PreTrainedModel:
    """The body with a head for `labels`: rows of labels that the base's head `suffix` has are kept, the rest is fresh.

    Without any such label the whole head is fresh. `outside` is a label that means whatever the others do not: by
    itself it is no reason to keep anything.
    """
    found = head_labels(base, suffix)
    if found == labels:
        return load_weights(base, auto_class, **_named(labels), **config_changes)
    kept = [label for label in labels if label in found]
    if set(kept) <= {outside}:
        if (log := replaced_head(base, kept=False)) is not None:
            tell(log)
        model = load_weights(base, auto_class, **_named(labels), **config_changes)
        # As many labels but others: the head's rows would fit, and mean something else.
        return _with_fresh_head(model) if found else model
    tell(_kept_rows(found, labels, kept))
    return _with_labels(load_weights(base, auto_class, **_named(found), **config_changes), found, labels)


def _named(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _kept_rows(found: Sequence[str], labels: Sequence[str], kept: Sequence[str]) -> Log:
    fresh, gone = ([label for label in some if label not in kept] for some in (labels, found))
    message = f"The base model's head knows {len(kept)} of the {len(labels)} labels: their rows are kept"
    message += f", those of {', '.join(map(repr, fresh[:10]))}{' …' if len(fresh) > 10 else ''} are fresh" * bool(fresh)
    message += f". Its labels {', '.join(map(repr, gone[:10]))}{' …' if len(gone) > 10 else ''} fall away" * bool(gone)
    data = {"kept": list(kept), "fresh": fresh, "dropped": gone}
    return Log(
        f"{message}.",
        data={"code": "head_rows_kept", **{name: some[:TOLD_LABELS] for name, some in data.items()}},
    )


def _with_fresh_head(model: PreTrainedModel) -> PreTrainedModel:
    fresh: PreTrainedModel = type(model)(model.config)
    head = {name: tensor for name, tensor in fresh.state_dict().items() if name.startswith(CLASSIFIERS)}
    model.load_state_dict(head, strict=False)
    return model


def _with_labels(model: PreTrainedModel, found: Sequence[str], labels: Sequence[str]) -> PreTrainedModel:
    """The model with outputs for `labels` in place of `found`; below its output layer the head stays as it is."""
    _, trained = output_layer(model)
    scores = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"{FIELD}.")}
    for name, value in _named(labels).items():
        setattr(model.config, name, value)
    fresh: PreTrainedModel = type(model)(model.config)
    name, layer = output_layer(fresh)
    pairs = [(labels.index(label), found.index(label)) for label in labels if label in found]
    new, old = (torch.tensor(places) for places in zip(*pairs, strict=True))
    with torch.no_grad():
        layer.weight[new] = trained.weight[old]
        if trained.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
            layer.bias[new] = trained.bias[old]
        for key, tensor in scores.items():
            target = fresh.get_parameter(key)
            if tensor.ndim == 1:
                target[new] = tensor[old]
            else:
                target[new[:, None], new] = tensor[old[:, None], old]
    model.set_submodule(name, layer)
    if scores:
        model.set_submodule(FIELD, fresh.get_submodule(FIELD))
    model.num_labels = cast(Any, len(labels))
    return model
