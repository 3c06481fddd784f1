"""The body of a model: what makes states of tokens, before any head reads them."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel

from worker.training.failures import UserError


@dataclass
class Heard:
    """What a body gave out when it was first called, and in which precision."""

    states: torch.Tensor | None = None
    dtype: torch.dtype | None = None  # of autocast; None without

    def precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Further passes run as that one did, of a body that is called outside of the model's own `forward` too."""
        return torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype is not None)


def reader_of(model: PreTrainedModel) -> torch.nn.Module:
    """The part of a model that reads texts: the encoder of an encoder-decoder, otherwise the whole body."""
    if model.config.is_encoder_decoder:
        return cast(torch.nn.Module, cast(Any, model).get_encoder())
    return model.base_model


@contextmanager
def listening(body: torch.nn.Module) -> Generator[Heard]:
    """While this is open, the first pass through the body is heard."""
    heard = Heard()

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if heard.states is None:
            states = cast(torch.Tensor, output.last_hidden_state)
            kind = states.device.type
            heard.states = states
            heard.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    handle = body.register_forward_hook(hook)
    try:
        yield heard
    finally:
        handle.remove()


def features_of(states: torch.Tensor, mask: torch.Tensor, features: Literal["mean", "first"]) -> torch.Tensor:
    """Features [texts, width] in fp32, of states [texts, tokens, width] and their attention mask [texts, tokens]."""
    if features == "first":
        begins = mask.argmax(dim=1)  # 0, unless padding stands on the left
        return states[torch.arange(len(states), device=states.device), begins].float()
    here = mask[:, :, None].float()
    return (states.float() * here).sum(dim=1) / here.sum(dim=1)


def refuse_frozen(body: torch.nn.Module, method: str) -> None:
    """Raise UserError where no parameter of the body trains, so that `method` could change nothing."""
    if not any(parameter.requires_grad for parameter in body.parameters()):
        raise UserError(
            "nothing_to_adapt",
            f"adaptation.{method} changes what the body of the model makes of texts, and adaptation.freeze leaves none "
            f"of the body's parameters that trains. Freeze less, or leave {method} out.",
            f"adaptation.{method}",
        )
