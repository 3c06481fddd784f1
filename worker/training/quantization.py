"""A base model whose linear layers are kept in 4 or 8 bits by bitsandbytes (Dettmers et al. 2023: QLoRA)."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig

from worker.training.encoder import CLASSIFIERS, BaseModelFiles
from worker.training.failures import UserError

# Further names of heads; what trains in full must be kept in full.
HEADS = (*(name.removesuffix(".") for name in CLASSIFIERS), "qa_outputs", "lm_head", "cls", "embed_out")


def quantized(base: BaseModelFiles, bits: Literal["4bit", "8bit"]) -> BaseModelFiles:
    """The base with weights that are read so. Raises UserError, saying what is missing, where they cannot be."""
    param = "adaptation.lora.quantization"
    if not torch.cuda.is_available():
        raise UserError(
            "quantization_without_gpu",
            f'{param} is "{bits}", and this worker has no CUDA device to compute with such weights. Leave quantization '
            "out, or run the job on a worker with an NVIDIA GPU.",
            param,
        )
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "bitsandbytes_missing",
            f'{param} is "{bits}", which the worker needs bitsandbytes for. Have its operator install it with '
            "`pip install 'tailor[qlora]'`, or leave quantization out.",
            param,
        )
    return replace(base, loading={"quantization_config": _settings(bits), "device_map": {"": 0}})


def _settings(bits: Literal["4bit", "8bit"]) -> BitsAndBytesConfig:
    skipped: dict[str, Any] = {"llm_int8_skip_modules": list(HEADS)}
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, **skipped)
    # As in the paper: normal floats, whose scales are quantized too.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16,
        **skipped,
    )


def holds_its_place(model: torch.nn.Module) -> bool:
    """Whether the model was loaded onto its device and cannot be moved."""
    return bool(getattr(model, "is_quantized", False))
