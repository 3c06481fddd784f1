"""A random T5 of some ten million weights, with a vocabulary that is learned from the texts it is to read and write."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

SPECIAL = ["<pad>", "</s>", "<unk>"]
WINDOW = 128


def write_small_writer(directory: Path, texts: Iterable[str], vocabulary: int = 8000) -> Path:
    """Write it as a Transformers directory."""
    backend = cast(Any, Tokenizer(models.Unigram()))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=vocabulary, special_tokens=SPECIAL, unk_token="<unk>")
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=WINDOW
    )
    torch.manual_seed(7)
    config = cast(Any, T5Config)(
        vocab_size=len(tokenizer),
        d_model=256,
        d_kv=32,
        d_ff=1024,
        num_layers=3,
        num_heads=8,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    cast(Any, T5ForConditionalGeneration(config)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
