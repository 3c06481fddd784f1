"""A small random BERT that reads Chinese by character, with the characters of given texts as its vocabulary."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from tests.contract.tiny import SPECIAL


def write_character_encoder(directory: Path, texts: Iterable[str], *, window: int) -> Path:
    """Two layers of width 64: enough to learn words of sentiment and surnames from a few thousand texts."""
    characters = sorted({character for text in texts for character in text.lower() if not character.isspace()})
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *characters])}
    tokenizer = BertTokenizerFast(vocab=vocabulary, tokenize_chinese_chars=True, model_max_length=window)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=window,
    )
    BertModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
