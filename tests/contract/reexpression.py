"""A BERT's weights under the names of other families, computing the same numbers.

What the others lack, segment embeddings, is the same for every token of a single text, and is added to the positions.
"""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel

State = dict[str, torch.Tensor]

DISTILBERT = (
    (r"^encoder\.layer", "transformer.layer"),
    (r"attention\.self\.query", "attention.q_lin"),
    (r"attention\.self\.key", "attention.k_lin"),
    (r"attention\.self\.value", "attention.v_lin"),
    (r"attention\.output\.dense", "attention.out_lin"),
    (r"attention\.output\.LayerNorm", "sa_layer_norm"),
    (r"intermediate\.dense", "ffn.lin1"),
    (r"output\.dense", "ffn.lin2"),
    (r"output\.LayerNorm", "output_layer_norm"),
)
POSITIONS, SEGMENTS = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"


def _sizes(config: BertConfig) -> dict[str, Any]:
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "max_position_embeddings",
        "layer_norm_eps",
        "pad_token_id",
    )
    return {name: getattr(config, name) for name in names}


def _without_segments(state: State) -> State:
    segments = state[SEGMENTS]
    return {
        name: value + segments[0] if name == POSITIONS else value for name, value in state.items() if name != SEGMENTS
    }


def as_bert(config: BertConfig, state: State) -> tuple[Any, State]:
    """As it is, without its pooler."""
    return BertConfig(**_sizes(config), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), state


def as_electra(config: BertConfig, state: State) -> tuple[Any, State]:
    """The same names; embeddings as wide as the body need no projection."""
    sizes = _sizes(config) | {"embedding_size": config.hidden_size}
    return transformers.ElectraConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), state


def as_roberta(config: BertConfig, state: State) -> tuple[Any, State]:
    """Positions are counted from `pad_token_id` + 1; there is one segment."""
    offset = config.pad_token_id + 1
    sizes = _sizes(config) | {"max_position_embeddings": config.max_position_embeddings + offset, "type_vocab_size": 1}
    folded = _without_segments(state)
    unreached = torch.zeros(offset, config.hidden_size)
    folded[POSITIONS] = torch.cat([unreached, folded[POSITIONS]])
    folded[SEGMENTS] = torch.zeros(1, config.hidden_size)
    return transformers.RobertaConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), folded


def as_distilbert(config: BertConfig, state: State) -> tuple[Any, State]:
    """Other names, and no segments."""
    sizes = {
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "hidden_dim": config.intermediate_size,
        "activation": config.hidden_act,
        "max_position_embeddings": config.max_position_embeddings,
        "pad_token_id": config.pad_token_id,
    }
    renamed: State = {}
    for name, value in _without_segments(state).items():
        for pattern, other in DISTILBERT:
            name = re.sub(pattern, other, name)
        renamed[name] = value
    return transformers.DistilBertConfig(**sizes, dropout=0.0, attention_dropout=0.0), renamed


FORMS = {"bert": as_bert, "electra": as_electra, "roberta": as_roberta, "distilbert": as_distilbert}


def reexpress(source: Path, form: str, target: Path) -> Path:
    """Write the BERT in `source` as a model of another family, with the tokenizer of its own kind."""
    bert = BertModel.from_pretrained(source, add_pooling_layer=False)
    config, state = FORMS[form](bert.config, bert.state_dict())
    model: PreTrainedModel = transformers.AutoModel.from_config(config)
    if hasattr(model, "pooler"):
        model.pooler = None
    model.load_state_dict({name: value for name, value in state.items() if not name.endswith("position_ids")})
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target
