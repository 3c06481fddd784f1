"""Logits over the vocabulary at some places of a batch only: a language model's head is its most expensive layer."""

from typing import Any, cast

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from worker.training.data import Batch


def logits_at(model: torch.nn.Module, batch: Batch, **arguments: Any) -> torch.Tensor:
    """Logits [places, vocabulary] at `batch.targets["place"]`, numbers of tokens in the flattened batch.

    The model runs as it is, whatever its head does behind the body (transform, bias, scale, soft cap); a hook hands the
    body's states to it at these places only. With 15 % of the tokens masked that is a seventh of the head's work and
    of its logits.
    """
    places = batch.targets["place"]

    def keep(_: torch.nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        states = cast(torch.Tensor, output.last_hidden_state)
        # A new object: whoever else listens to the body has the whole output.
        return type(output)(**{**output, "last_hidden_state": states.flatten(0, 1)[places][None]})

    language_model = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    handle = body_of(language_model).register_forward_hook(keep)
    try:
        return model(**batch.inputs, **arguments, return_dict=True).logits[0]
    finally:
        handle.remove()


def body_of(language_model: PreTrainedModel) -> torch.nn.Module:
    """What the head reads from: the base model, or the part of it that the whole model calls in its stead."""
    body: torch.nn.Module = language_model.base_model
    return body.get_submodule("decoder") if language_model.config.model_type == "opt" else body


def token_losses(logits: torch.Tensor, tokens: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of every token, [places], in fp32."""
    return functional.cross_entropy(logits.float(), tokens, reduction="none", label_smoothing=label_smoothing)
