"""A tiny random model of every family that can be fine-tuned, each with the family's own kind of tokenizer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.contract.tiny import example_texts

WINDOW = 48
PIECES = 1000  # of vocabularies that are learned
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
}


@dataclass(frozen=True)
class Family:
    """`config` is the name of its configuration class; `sizes` are in the names that the class has for them."""

    name: str
    config: str
    tokenizer: Callable[[list[str]], PreTrainedTokenizerBase]
    sizes: dict[str, Any]

    def write(self, directory: Path) -> Path:
        """A Transformers directory as a hub has it: the body without a head."""
        tokenizer = self.tokenizer(example_texts())
        tokenizer.model_max_length = WINDOW
        ids = {
            f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
            for name in ("pad", "bos", "eos")
            if getattr(tokenizer, f"{name}_token_id") is not None
        }
        config = getattr(transformers, self.config)(vocab_size=len(tokenizer), **(self.sizes | ids))
        torch.manual_seed(7)
        AutoModel.from_config(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return directory


def _word_pieces(kind: str) -> Callable[[list[str]], PreTrainedTokenizerBase]:
    def build(texts: list[str]) -> PreTrainedTokenizerBase:
        words = {word for text in texts for word in text.lower().replace(",", " ").replace(".", " ").split()}
        letters = sorted({letter for word in words for letter in word} | set(".,'"))
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(w for w in words if len(w) > 1)]
        return getattr(transformers, kind)(vocab={piece: number for number, piece in enumerate(pieces)})

    return build


def _byte_pairs(kind: str, special: list[str], **options: Any) -> Callable[[list[str]], PreTrainedTokenizerBase]:
    def build(texts: list[str]) -> PreTrainedTokenizerBase:
        learned = _learned(texts, special)
        vocabulary = learned.get_vocab()
        merges = json.loads(learned.to_str())["model"]["merges"]
        return getattr(transformers, kind)(vocab=vocabulary, merges=[tuple(pair) for pair in merges], **options)

    return build


def _learned(texts: list[str], special: list[str]) -> Tokenizer:
    """Byte pairs of words as they stand in a text, with the space before them, so that few spaces are pieces."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES + len(alphabet), special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    learned.train_from_iterator([f" {word}" for text in texts for word in text.split()], trainer)
    return learned


def _llama3(texts: list[str]) -> PreTrainedTokenizerBase:
    """The third Llama has byte pairs and no class of its own."""
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    learned = _learned(texts, [begin, end])
    learned.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=learned, bos_token=begin, eos_token=end)


def _unigrams(kind: str, special: list[str], **options: Any) -> Callable[[list[str]], PreTrainedTokenizerBase]:
    def build(texts: list[str]) -> PreTrainedTokenizerBase:
        words = sorted({form for text in texts for word in text.split() for form in (word, word.lower())})
        letters = sorted({letter for word in words for letter in word} | {"\u2581"})
        pieces = [*((token, 0.0) for token in special), *((letter, -8.0) for letter in letters)]
        pieces += [(f"\u2581{word}", -4.0) for word in words]
        return getattr(transformers, kind)(vocab=pieces, **options)

    return build


def _renamed(**names: str) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in SIZES.items() if names.get(name, name)}


OFFSET = SIZES | {"max_position_embeddings": WINDOW + 2}
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
DECODER = SIZES | {"num_key_value_heads": 1}
GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
XLNET_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "d_inner",
    "max_position_embeddings": "",
}
DISTILBERT_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": WINDOW,
    "decoder_start_token_id": 2,
}
T5 = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64, "decoder_start_token_id": 0}

FAMILIES = (
    Family("bert", "BertConfig", _word_pieces("BertTokenizer"), SIZES),
    Family("distilbert", "DistilBertConfig", _word_pieces("DistilBertTokenizer"), _renamed(**DISTILBERT_NAMES)),
    Family("electra", "ElectraConfig", _word_pieces("ElectraTokenizer"), SIZES | {"embedding_size": 16}),
    Family("roberta", "RobertaConfig", _byte_pairs("RobertaTokenizer", ROBERTA_TOKENS), OFFSET),
    Family(
        "xlm-roberta",
        "XLMRobertaConfig",
        _unigrams("XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>"]),
        OFFSET,
    ),
    Family(
        "albert",
        "AlbertConfig",
        _unigrams("AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
        SIZES | {"embedding_size": 16},
    ),
    Family(
        "deberta",
        "DebertaConfig",
        _byte_pairs("DebertaTokenizer", ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]),
        SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    ),
    Family(
        "deberta-v2",
        "DebertaV2Config",
        _unigrams("DebertaV2Tokenizer", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        SIZES
        | {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    Family(
        "xlnet",
        "XLNetConfig",
        _unigrams("XLNetTokenizer", ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]),
        _renamed(**XLNET_NAMES),
    ),
    Family(
        "modernbert",
        "ModernBertConfig",
        _word_pieces("BertTokenizer"),
        SIZES | {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
    Family("gpt2", "GPT2Config", _byte_pairs("GPT2Tokenizer", ["<|endoftext|>"]), _renamed(**GPT2_NAMES)),
    Family(
        "llama",
        "LlamaConfig",
        _llama3,
        DECODER,
    ),
    Family("qwen2", "Qwen2Config", _byte_pairs("Qwen2Tokenizer", ["<|endoftext|>"]), DECODER),
    Family("qwen3", "Qwen3Config", _byte_pairs("Qwen2Tokenizer", ["<|endoftext|>"]), DECODER | {"head_dim": 16}),
    Family("bart", "BartConfig", _byte_pairs("BartTokenizer", ROBERTA_TOKENS), BART),
    Family("t5", "T5Config", _unigrams("T5Tokenizer", ["<pad>", "</s>", "<unk>"], extra_ids=0), T5),
)
