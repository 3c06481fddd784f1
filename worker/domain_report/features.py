"""What a model's body makes of texts: the mean of its last hidden states over the tokens of each."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from worker.protocol import Event
from worker.training.bodies import features_of, reader_of
from worker.training.data import Examples, Ragged, collate, tokenize
from worker.training.sampler import evaluation_batches
from worker.training.watch import Watch

TOKENS = 128  # of each text that are looked at
CHARACTERS_PER_TOKEN = 32  # more of a text is not tokenised
TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 32768}

Floats = NDArray[np.float32]


class NoFeaturesError(Exception):
    """The model's body gives out no hidden states; the message says of which kind it is."""


def mean_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    stop: threading.Event,
    emit: Callable[[Event], None],
) -> Floats:
    """Features [texts, width] of the first TOKENS tokens of texts; of an encoder-decoder those of its encoder.

    The model is left in the mode it was in. Raises StoppedError once `stop` is set, and NoFeaturesError.
    """
    examples = _first_windows(texts, tokenizer, min(TOKENS, max_length))
    body: Any = reader_of(model)
    device = next(body.parameters()).device
    found: Floats | None = None
    watch, training = Watch("domain report: features", examples.count, stop, emit), model.training
    model.eval()
    try:
        for rows in evaluation_batches(examples.lengths, TOKENS_PER_BATCH.get(device.type, 16384)):
            watch.check()
            batch = collate(examples, rows, device)
            with torch.inference_mode():
                # The class's own pass: `freeze` puts features that it kept, and those only, before the body's.
                output = type(body).forward(body, **batch.inputs)
                hidden = getattr(output, "last_hidden_state", None)
                if not isinstance(hidden, torch.Tensor):
                    raise NoFeaturesError(f"{type(body).__name__} gives out no hidden states")
                means = features_of(hidden, batch.inputs["attention_mask"], "mean").cpu().numpy()
            if found is None:
                found = np.empty((examples.count, means.shape[1]), dtype=np.float32)
            found[rows] = means
            watch.add(len(rows))
    finally:
        model.train(training)
    assert found is not None
    return found


def _first_windows(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> Examples:
    cut = [text[: CHARACTERS_PER_TOKEN * length] for text in texts]
    if getattr(tokenizer, "is_fast", False):
        windows = tokenize(cut, tokenizer, length)
        first = np.cumsum(windows.windows_of) - windows.windows_of
        inputs = {name: ragged.take(first) for name, ragged in windows.inputs.items()}
    else:
        call: Any = tokenizer
        ids = call(cut, truncation=True, max_length=length, verbose=False)["input_ids"]
        inputs = {"input_ids": Ragged.of(ids, np.int32, cast(int, tokenizer.pad_token_id))}
    return Examples(
        inputs=inputs,
        targets={},
        weight=np.ones(len(texts), dtype=np.float32),
        record=np.arange(len(texts), dtype=np.int64),
        pad_left=tokenizer.padding_side == "left",
    )
