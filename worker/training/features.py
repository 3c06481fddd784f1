"""What a frozen body makes of texts, computed once: each further epoch costs only the head.

Features are kept by the tokens of a window and computed in batches that depend on the data alone, so that a resumed run
finds the very numbers of the run before it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from worker.training.data import Batch, Examples, collate
from worker.training.interfaces import Task
from worker.training.materials import Materials
from worker.training.sampler import evaluation_batches
from worker.training.watch import Watch

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Site:
    """Where a run is about to start: the model is on its device, and `splits()` are what it will see again and again.

    The first of them is what it trains on. `directory` may be written to, and goes with the run. `resumed`: the weights
    are about to be a checkpoint's.
    """

    task: Task
    model: torch.nn.Module
    materials: Materials
    splits: Callable[[], Sequence[Examples]]
    device: torch.device
    directory: Path
    resumed: bool


@dataclass
class _Stored:
    """One output of the body: rows of [tokens, width] or of [width], one after the other in a file."""

    path: Path
    dtype: torch.dtype
    by_token: bool
    width: int
    used: bool
    ends: list[int] = field(default_factory=lambda: [0])
    values: NDArray[np.float32] | None = None  # [all rows, width]

    def row(self, index: int) -> NDArray[np.float32]:
        assert self.values is not None
        return self.values[self.ends[index] : self.ends[index + 1]]

    def batch(self, rows: Sequence[int], shape: tuple[int, int], left: bool) -> torch.Tensor:
        """Rows, padded with zeros to [rows, tokens, width]. What nothing reads is a view of one zero."""
        whole = (shape[0], shape[1], self.width) if self.by_token else (shape[0], self.width)
        if not self.used:
            return torch.zeros((), dtype=self.dtype).expand(whole)
        if not self.by_token:
            return torch.from_numpy(np.concatenate([self.row(index) for index in rows])).to(self.dtype)
        padded = np.zeros(whole, dtype=np.float32)
        for place, index in enumerate(rows):
            row = self.row(index)
            if left:
                padded[place, shape[1] - len(row) :] = row
            else:
                padded[place, : len(row)] = row
        return torch.from_numpy(padded).to(self.dtype)


@dataclass
class FrozenBody:
    """Stands before a body's `forward`: runs it without dropout and gradients, and not at all where it ran before."""

    body: torch.nn.Module
    directory: Path
    outputs: dict[str, _Stored] = field(default_factory=dict[str, _Stored])
    kind: type[ModelOutput] | None = None
    rows: dict[bytes, int] = field(default_factory=dict[bytes, int])
    heard: ModelOutput | None = None  # what the body last gave out, while features are computed
    listening: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel, directory: Path) -> "FrozenBody":
        """Take the place of the body's `forward`."""
        body = model.base_model
        frozen = cls(body, directory)
        run, signature = body.forward, inspect.signature(body.forward)

        def forward(*args: Any, **kwargs: Any) -> Any:
            body.eval()  # dropout would make every epoch's features others
            given = dict(signature.bind(*args, **kwargs).arguments)
            given |= given.pop("kwargs", {})
            if not frozen.listening and (kept := frozen.recall(given)) is not None:
                return kept
            with torch.no_grad():
                output = run(*args, **kwargs)
            if frozen.listening and isinstance(output, ModelOutput):
                frozen.heard = output
            return output

        body.forward = cast(Any, forward)
        return frozen

    def compute(self, site: Site) -> None:
        """Keep the features of all windows. Raises StoppedError once `stop` is set."""
        with torch.random.fork_rng():  # the steps draw what they would have drawn without this
            self._compute(site)

    def _compute(self, site: Site) -> None:
        # What is drawn anew in each epoch is never met again.
        splits = [examples for examples in site.splits() if examples.draw is None or not examples.draw.redraws]
        materials, total = site.materials, sum(examples.count for examples in splits)
        watch = Watch("computing features", total, materials.stop, materials.emit)
        site.model.train()
        self.listening = True
        try:
            for examples in splits:
                for rows in evaluation_batches(examples.lengths, TOKENS_PER_BATCH):
                    watch.check()
                    batch = collate(examples, rows, site.device)
                    if self.kind is None and not self._begin(site, batch):
                        return  # a body that gives out something else runs every time
                    with torch.inference_mode():
                        site.task.predict(site.model, batch)
                    self._keep(batch)
                    watch.add(len(rows))
        finally:
            self.listening, self.heard = False, None
        for stored in self.outputs.values():
            if stored.used:
                stored.values = np.memmap(stored.path, np.float32, "r", shape=(stored.ends[-1], stored.width))

    def _begin(self, site: Site, batch: Batch) -> bool:
        """See what the body gives out and, by the gradient of the loss, which of it the head reads."""
        handle = self.body.register_forward_hook(_with_gradients)
        try:
            loss = site.task.objective(site.model, batch).loss
        finally:
            handle.remove()
        if not isinstance(self.heard, ModelOutput):
            return False
        tensors = {name: value for name, value in self.heard.items() if isinstance(value, torch.Tensor)}
        if set(tensors) != set(self.heard.keys()):
            return False
        found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
        gradients = cast("tuple[torch.Tensor | None, ...]", found)
        self.directory.mkdir(exist_ok=True)
        for (name, value), gradient in zip(tensors.items(), gradients, strict=True):
            path = self.directory / f"{name}.f32"
            path.unlink(missing_ok=True)
            self.outputs[name] = _Stored(path, value.dtype, value.ndim == 3, value.shape[-1], gradient is not None)
        self.kind = type(self.heard)
        return True

    def _keep(self, batch: Batch) -> None:
        assert self.heard is not None
        mask = batch.inputs["attention_mask"].bool()
        fresh: list[int] = []
        for place, key in enumerate(_keys(batch.inputs)):
            if key not in self.rows:
                self.rows[key] = len(self.rows)
                fresh.append(place)
        for name, stored in self.outputs.items():
            if not stored.used:
                continue
            value = cast(torch.Tensor, self.heard[name]).float().cpu()
            with stored.path.open("ab") as file:
                for place in fresh:
                    row = value[place][mask[place].cpu()] if stored.by_token else value[place : place + 1]
                    file.write(row.contiguous().numpy().tobytes())
                    stored.ends.append(stored.ends[-1] + len(row))

    def recall(self, arguments: Mapping[str, Any]) -> ModelOutput | None:
        """The body's output for these arguments; None where it has to be computed."""
        ids = arguments.get("input_ids")
        mask = cast(object, arguments.get("attention_mask"))
        if self.kind is None or not isinstance(ids, torch.Tensor) or not isinstance(mask, torch.Tensor):
            return None
        found = [self.rows.get(key) for key in _keys(arguments)]
        rows = [index for index in found if index is not None]
        if len(rows) < len(found):
            return None
        left = bool((mask[:, 0] == 0).any())
        shape = (ids.shape[0], ids.shape[1])
        return self.kind(
            **{name: stored.batch(rows, shape, left).to(ids.device) for name, stored in self.outputs.items()}
        )


def _keys(inputs: Mapping[str, Any]) -> list[bytes]:
    """What tells windows apart: their tokens and segments, without padding."""
    mask = inputs["attention_mask"].bool().cpu().numpy()
    parts = [
        inputs[name].cpu().numpy()
        for name in ("input_ids", "token_type_ids")
        if isinstance(inputs.get(name), torch.Tensor)
    ]
    return [b"|".join(part[place][mask[place]].tobytes() for part in parts) for place in range(len(mask))]


def _with_gradients(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
    for value in output.values() if isinstance(output, ModelOutput) else ():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value.requires_grad_()
    return output
