"""A random classifier of a few hundred weights without dropout, so that what it computes can be followed by hand."""

import torch
from transformers import BertConfig, BertForSequenceClassification


def small_bert(layers: int) -> BertForSequenceClassification:
    """The same one every time."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    return BertForSequenceClassification(config)
