"""Tiny random models that read one text and write another, of every family, each with a tokenizer of its kind."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Tokenizer,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from app.catalog.tasks import TASKS
from tests.contract.numbers import vocabulary
from tests.contract.tiny import WINDOW, Row

ROWS: list[Row] = list(TASKS["translation"].variants[0].example)
WORDS = sorted({word for row in ROWS for text in row.values() for word in text.split()})

ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW + 2,
}
HALVES: dict[str, Any] = {
    "d_model": 32,
    "max_position_embeddings": WINDOW,
    **{
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))
    },
}
T5: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
WRITERS: dict[str, dict[str, Any]] = {
    "bart": HALVES,
    "longt5": T5,
    "mt5": T5,
    "mvp": HALVES,
    "pegasus": HALVES,
    "t5": T5,
    "umt5": T5,
}
READERS: dict[str, dict[str, Any]] = {
    "bert": ENCODER,
    "camembert": ENCODER,
    "electra": ENCODER | {"embedding_size": 32},
    "ernie": ENCODER,
    "rembert": ENCODER | {"input_embedding_size": 32, "output_embedding_size": 32},
    "roberta": ENCODER,
    "roberta-prelayernorm": ENCODER,
    "roformer": ENCODER | {"embedding_size": 32},
    "xlm-roberta": ENCODER,
    "xlm-roberta-xl": ENCODER,
}
# Families whose models say with a code which language they read and write.
MULTILINGUAL = ("m2m_100", "mbart", "mbart50", "nllb")


def write_writer(family: str, tiny_encoder: Path, directory: Path) -> Path:
    """A model of a family with the tiny encoder's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    special = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in (("pad", "[PAD]"), ("bos", "[CLS]"), ("eos", "[SEP]"))
    }
    config = CONFIG_MAPPING[family](
        vocab_size=len(tokenizer),
        **(WRITERS | READERS)[family],
        **special,
        **({"decoder_start_token_id": special["pad_token_id"]} if family in WRITERS else {}),
    )
    torch.manual_seed(3)
    loader = AutoModelForSeq2SeqLM if family in WRITERS else AutoModel
    loader.from_config(config).save_pretrained(directory)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(directory)
    return directory


def write_marian(directory: Path) -> Path:
    """A Marian model with two SentencePiece models and a vocabulary, as they are published: no tokenizer.json."""
    directory.mkdir()
    pieces: set[str] = set()
    for half, field in (("source", "source"), ("target", "target")):
        model = sentencepiece_model([row[field] for row in ROWS])
        (directory / f"{half}.spm").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces |= {processor.id_to_piece(index) for index in range(3, len(processor))}
    vocabulary = {piece: index for index, piece in enumerate(["</s>", "<unk>", *sorted(pieces), "<pad>"])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    files = (str(directory / name) for name in ("source.spm", "target.spm", "vocab.json"))
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="de", model_max_length=WINDOW)
    tokenizer.save_pretrained(directory)
    pad = vocabulary["<pad>"]
    config = CONFIG_MAPPING["marian"](
        vocab_size=len(vocabulary), **HALVES, pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad,
        forced_eos_token_id=0, scale_embedding=True,
    )  # fmt: skip
    torch.manual_seed(3)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(directory)
    return directory


def sentencepiece_model(texts: list[str], vocabulary: int = 45) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 5), model_writer=model, vocab_size=vocabulary, minloglevel=2
    )
    return model.getvalue()


def write_multilingual(family: str, directory: Path) -> Path:
    """A model with codes of languages."""
    directory.mkdir()
    tokenizer: PreTrainedTokenizerBase
    if family == "m2m_100":
        model = sentencepiece_model([text for row in ROWS for text in row.values()])
        (directory / "sentencepiece.bpe.model").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [
            "<s>",
            "<pad>",
            "</s>",
            "<unk>",
            *(processor.id_to_piece(index) for index in range(3, len(processor))),
        ]
        (directory / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(pieces)}))
        tokenizer = M2M100Tokenizer(
            str(directory / "vocab.json"), str(directory / "sentencepiece.bpe.model"), model_max_length=WINDOW
        )
    else:
        scores = [(f"▁{word}", -3.0) for word in WORDS] + [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
        special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        made: Any = {"mbart": MBartTokenizer, "mbart50": MBart50Tokenizer, "nllb": NllbTokenizer}[family]
        vocabulary: Any = [*special, *scores]
        if family == "nllb":
            vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
        tokenizer = made(vocab=vocabulary, model_max_length=WINDOW)
    tokenizer.save_pretrained(directory)
    kind = {"mbart50": "mbart", "nllb": "m2m_100"}.get(family, family)
    config = CONFIG_MAPPING[kind](
        vocab_size=len(tokenizer) + 128,  # M2M100 leaves a gap before its codes
        **HALVES,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(3)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(directory)
    return directory


def write_number_reader(directory: Path) -> Path:
    """A random T5 of 0.3 million weights whose vocabulary are the words of numbers."""
    tokens = ["<pad>", "</s>", "<unk>", *vocabulary()]
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    torch.manual_seed(3)
    config = CONFIG_MAPPING["t5"](
        vocab_size=len(tokens), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
