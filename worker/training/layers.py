"""Where in a model a parameter is, told from its name: the way Transformers names embeddings and layers."""

import re
from collections.abc import Iterable

# bert.encoder.layer.3., model.layers.3., transformer.h.3., encoder.block.3., albert_layer_groups.0.
LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks|albert_layer_groups)\.(\d+)\.")
EMBEDDING_NAMES = frozenset({"wte", "wpe", "shared", "word_embedding"})


def layer_of(parameter: str) -> int | None:
    """Number of the layer that a parameter is in, counted from the embeddings; None where it is in none."""
    found = LAYER.search(parameter)
    return int(found[1]) if found else None


def is_embedding(parameter: str) -> bool:
    """Whether a parameter belongs to what turns tokens into vectors."""
    if layer_of(parameter) is not None:
        return False
    return any(part in EMBEDDING_NAMES or part.startswith("embed") for part in parameter.split("."))


def layer_count(parameters: Iterable[str]) -> int:
    """Layers of a model; encoder and decoder of one number count once."""
    return max((number + 1 for name in parameters if (number := layer_of(name)) is not None), default=0)
