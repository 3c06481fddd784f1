"""How fast a run goes and when it will end."""

import time
from dataclasses import dataclass, field

FORWARD_SHARE = 1 / 3  # a forward pass of a training example's forward and backward


@dataclass
class Pace:
    """Seconds spent on training, evaluation and checkpoints since this process began. A GPU's queue evens out."""

    seconds: dict[str, float] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    first_step: tuple[float, int] | None = None

    def trained(self, seconds: float, examples: int) -> None:
        """One optimizer step. The first one also pays for what is set up lazily and counts only while it is alone."""
        if self.first_step is None:
            self.first_step = (seconds, examples)
        else:
            self._add("training", seconds, examples)

    def evaluated(self, seconds: float, examples: int) -> None:
        """One pass over a split."""
        self._add("evaluation", seconds, examples)

    def saved(self, seconds: float) -> None:
        """One checkpoint."""
        self._add("checkpoint", seconds, 1)

    def examples_per_second(self) -> float:
        """Training examples a second, evaluation and checkpoints left out."""
        seconds, examples = self.first_step or (0.0, 0)
        if "training" in self.seconds:
            seconds, examples = self.seconds["training"], self.amounts["training"]
        return examples / seconds if seconds > 0 else 0.0

    def eta_s(self, training_examples: int, evaluation_examples: int, checkpoints: int) -> float | None:
        """Seconds for what is left, or None before the first step. What was not met yet is estimated from training."""
        rate = self.examples_per_second()
        if rate == 0:
            return None
        evaluation = self._cost("evaluation", FORWARD_SHARE / rate)
        return training_examples / rate + evaluation_examples * evaluation + checkpoints * self._cost("checkpoint", 0.0)

    def _add(self, kind: str, seconds: float, amount: int) -> None:
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        self.amounts[kind] = self.amounts.get(kind, 0) + amount

    def _cost(self, kind: str, unknown: float) -> float:
        return self.seconds[kind] / self.amounts[kind] if self.amounts.get(kind) else unknown


def now() -> float:
    """Seconds on a clock that never jumps."""
    return time.perf_counter()
