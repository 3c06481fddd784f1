"""A task that trains beside a job's own: its model has a head of its own on the very body of the job's model."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from app.catalog.tasks import TASKS
from worker.protocol import Log
from worker.training.data import Batch, Examples, Records, collate
from worker.training.encoder import open_base
from worker.training.failures import UserError
from worker.training.interfaces import Task, task_class
from worker.training.materials import Materials
from worker.training.preprocessing import apply
from worker.training.sampler import LengthBuckets

HEADS, WEIGHTS = "heads", "model.safetensors"  # a folder of the artifact, and a file of each head in it
RUN = 32  # windows of similar length that follow one another
CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
}
CARD = """# {name}: a head for {type}

It was trained beside the model two folders up, reads what that model's body makes of texts, and has its tokenizer.

```python
from safetensors.torch import load_file
from transformers import {auto}

directory = "path/to/this/directory"
model = {auto}.from_pretrained(directory{trust})  # the head
body = load_file(f"{{directory}}/../../model.safetensors")
model.load_state_dict(body | load_file(f"{{directory}}/{file}"), strict=False)
model.eval()
```

`task.json` has the options it was trained with and its labels.
"""


@dataclass
class Auxiliary:
    """One task beside the job's own. `head` are the parameters that its model does not share, dots written as slashes.

    `position` counts the windows that were drawn. They go through all of them in an order of each round's own, so that
    windows of similar length follow one another.
    """

    name: str
    options: dict[str, Any]
    task: Task
    model: PreTrainedModel
    head: nn.ParameterDict
    examples: Examples
    max_length: int
    seed: int
    position: int = 0
    order: tuple[int, NDArray[np.int64]] | None = field(default=None, repr=False)  # of which round

    @classmethod
    def of(
        cls, name: str, options: BaseModel, records: Records, body: PreTrainedModel, materials: Materials
    ) -> "Auxiliary":
        """The task on `records`, with the body of the job's model `body`. Raises UserError."""
        asked = options.model_dump(mode="json")
        spec = TASKS[asked["type"]]
        variant = spec.variant(asked)

        def tell(log: Log) -> None:
            materials.emit(replace(log, message=f"Task {name!r} of multi_task: {log.message}"))

        words = any(one.type == "words" for one in variant.fields)
        base = open_base(materials.base.id, materials.base.directory, spec.model_types, words=words)
        read = apply(materials.preprocessing, replace(records, split="train"), spec, variant)
        task = task_class(spec).from_records(
            options, {"train": read}, label_smoothing=0.0, class_weights=None, seed=materials.seed
        )
        model = task.load_model(base, tell)
        share_body(body, model)
        shared = {id(parameter) for parameter in body.parameters()}
        own = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in shared}
        examples = task.encode(read, base.tokenizer, materials.max_length)
        if (log := task.windows_log(read, examples, materials.max_length)) is not None:
            tell(log)
        return cls(
            name,
            asked,
            task,
            model,
            nn.ParameterDict({key.replace(".", "/"): parameter for key, parameter in own.items()}),
            examples,
            materials.max_length,
            materials.seed,
        )

    def draw(self, count: int, device: torch.device) -> Batch:
        """The next so many windows; behind the last the next round begins."""
        rows: list[NDArray[np.int64]] = []
        first, left = self.position // self.examples.count, count
        while left:
            round_, done = divmod(self.position, self.examples.count)
            if self.order is None or self.order[0] != round_:
                buckets = LengthBuckets(self.examples.lengths, RUN, 1, self.seed)
                self.order = round_, np.concatenate([batch for step in buckets.epoch(round_) for batch in step])
            rows.append(self.order[1][done : done + left])
            self.position += len(rows[-1])
            left -= len(rows[-1])
        return collate(self.examples, np.concatenate(rows), device, first)

    def write(self, directory: Path) -> None:
        """Leave the head in `directory`, a folder of its own beside the model: weights, configuration, how to load."""
        directory.mkdir(parents=True, exist_ok=True)
        names = {name.replace("/", ".") for name in self.head}
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name in names}
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, directory / WEIGHTS)
        config: dict[str, Any] = self.model.config.to_dict() | {"architectures": [type(self.model).__name__]}
        config.pop("_name_or_path", None)
        (directory / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        self.task.add_files(directory, self.max_length)
        described = {"name": self.name, "task": self.options, "labels": self.task.labels}
        (directory / "task.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
        own_code = any(path.suffix == ".py" for path in directory.iterdir())
        kind = self.options["type"]
        card = CARD.format(
            name=self.name,
            type=kind,
            auto=CLASSES[kind],
            file=WEIGHTS,
            trust=", trust_remote_code=True" if own_code else "",
        )
        (directory / "README.md").write_text(card, "utf-8")


def share_body(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Have `other` compute with the body of `model`; what only its own body has, such as a pooler, stays its own.

    The parts of the body are shared and not the body itself, as some classes have one without a pooler. Raises
    UserError where the two classes of models do not have one kind of body.
    """
    ours, theirs = model.base_model, other.base_model
    if ours is model or type(ours) is not type(theirs):
        raise UserError(
            "multi_task_no_shared_body",
            f"This base model is trained as {type(model).__name__} for the job's task and as {type(other).__name__} "
            "for this one, which have no body in common. Leave the task out, or use an encoder such as BERT.",
        )
    there = {name for name, _ in theirs.named_children()}
    for name, part in ours.named_children():
        if name in there:
            setattr(theirs, name, part)
    for name, parameter in ours.named_parameters(recurse=False):
        theirs.register_parameter(name, parameter)
    other.tie_weights()  # a head for masked tokens shares the embeddings


@contextmanager
def errors_of(place: str, name: str) -> Generator[None]:
    """While this is open, errors say that they are of the task `name`, and name parameters beneath `place`."""
    try:
        yield
    except UserError as error:
        inner = error.param or ""
        kept = inner if inner.startswith(("training_file", "task.")) else ""
        param = f"{place}.{kept}" if kept else place
        raise UserError(error.code, f"Task {name!r} of multi_task: {error.message}", param, error.data) from error


def shares(windows: list[int], power: float) -> NDArray[np.float64]:
    """Probabilities in proportion to `windows` to the power of `power`."""
    weights = np.array(windows, dtype=np.float64) ** power
    return weights / weights.sum()
