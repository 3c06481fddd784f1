"""The learning rate as a pure function of the step: nothing to save, nothing to restore wrongly."""

import math

from app.catalog.hyperparameters import Scheduler

POLYNOMIAL_END = 1e-7  # `lr_end` of transformers.get_polynomial_decay_schedule_with_warmup, power 1


def warmup_steps(ratio: float, total_steps: int) -> int:
    """Steps in which the rate rises; rounded up as `transformers.Trainer` does."""
    return math.ceil(ratio * total_steps)


def learning_rate(name: Scheduler, peak: float, step: int, warmup: int, total: int) -> float:
    """Rate of the step with 0-based number `step`. Formulas of `transformers.optimization`, checked by a test."""
    if name == "constant":
        return peak
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    match name:
        case "constant_with_warmup":
            return peak
        case "linear":
            return peak * max(0.0, 1 - progress)
        case "cosine":
            return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
        case "polynomial":
            end = min(POLYNOMIAL_END, peak)
            return end if step > total else (peak - end) * (1 - progress) + end
        case "inverse_sqrt":
            timescale = warmup or 10_000
            return peak / math.sqrt((step + timescale - warmup) / timescale)
