"""The head at some places only gives what the model gives there, in every family of the catalogue."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from app.catalog.model_types import CAUSAL_LANGUAGE_MODELS, MASKED_LANGUAGE_MODELS
from worker.training.data import Batch
from worker.training.vocabulary_head import logits_at, token_losses

VOCABULARY = 60
WIDTH = 24
# Sizes by every name that configurations have for them; a family takes those that it knows.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "true_hidden_size"), 32),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "n_inner", "ffn_dim", "d_inner"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("head_dim", "d_head"), 16),
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What else has to fit to those sizes; None: cannot be set.
FURTHER: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "codegen": {"rotary_dim": 8, "num_attention_heads": 4, "n_head": 4},
    "falcon": {"head_dim": None},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "num_hidden_layers": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "longformer": {"attention_window": 8},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32, "num_feedforward_networks": 1},
    "nystromformer": {"segment_means_seq_len": WIDTH, "num_landmarks": WIDTH},
    "opt": {"word_embed_proj_dim": 32},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 32},
    "squeezebert": {"q_groups": 1, "k_groups": 1, "v_groups": 1, "intermediate_groups": 1, "output_groups": 1},
}


@pytest.mark.parametrize(
    ("auto", "family"),
    [
        *((AutoModelForMaskedLM, family) for family in sorted(MASKED_LANGUAGE_MODELS)),
        *((AutoModelForCausalLM, family) for family in sorted(CAUSAL_LANGUAGE_MODELS)),
    ],
)
def test_the_logits_at_some_places_are_those_of_the_whole_model(auto: Any, family: str) -> None:
    known = CONFIG_MAPPING[family]()
    sizes = {name: size for name, size in SIZES.items() if hasattr(known, name)} | FURTHER.get(family, {})
    torch.manual_seed(3)
    config = CONFIG_MAPPING[family](**{name: size for name, size in sizes.items() if size is not None})
    model = auto.from_config(config).eval()
    ids = torch.randint(3, VOCABULARY, (2, WIDTH))
    mask = torch.ones_like(ids)
    mask[1, WIDTH - 4 :] = 0
    place = torch.tensor([0, 5, WIDTH - 1, WIDTH + 1, WIDTH + 7])
    batch = Batch({"input_ids": ids, "attention_mask": mask}, {"place": place}, torch.ones(2), np.arange(2))
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[place]
        found = logits_at(model, batch)
    assert found.shape == (5, VOCABULARY)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[place], expected)
    losses = token_losses(found, place % VOCABULARY)
    assert losses.mean().item() == pytest.approx(
        torch.nn.functional.cross_entropy(expected, place % VOCABULARY).item(), rel=1e-5
    )
