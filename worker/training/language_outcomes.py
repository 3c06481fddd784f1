"""What a language model makes of each record, for result files, slices and comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.catalog.measures import Measure
from worker.training.data import Examples
from worker.training.language_metrics import WindowTokens, language_values
from worker.training.outcomes import Outcomes

MEASURES = (
    Measure(name="perplexity", form="exp_ratio", columns=("loss", "tokens"), lower_is_better=True),
    Measure(name="token_accuracy", form="ratio", columns=("right", "tokens")),
    Measure(name="loss", form="ratio", columns=("loss", "tokens"), lower_is_better=True),
)


def language_outcomes(
    targets: Sequence[str | None], examples: Examples, predictions: Sequence[WindowTokens]
) -> Outcomes:
    """Sums over the windows of each record. `target` is the answer that was to be given, where there is one.

    A record without a token that can be predicted has `tokens` 0 and no numbers. Models whose tokenizers differ have
    different `tokens`, and their perplexities cannot be compared.
    """
    sums = np.zeros((len(targets), 3))
    np.add.at(sums, examples.record, np.array(predictions, dtype=np.float64))
    rows: list[dict[str, Any]] = [
        {"target": target, "prediction": None, "tokens": int(tokens)}
        | language_values([WindowTokens(loss, int(right), int(tokens))])
        for target, (loss, right, tokens) in zip(targets, sums.tolist(), strict=True)
    ]
    loss, right, tokens = sums.T
    return Outcomes(rows, {"loss": loss, "right": right, "tokens": tokens}, MEASURES, gold=("tokens",))
