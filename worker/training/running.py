"""Means over what a run has lately seen, kept on the device until somebody asks."""

from dataclasses import dataclass

import torch


@dataclass
class RunningMean:
    """The mean of all values until there are `most`; from then on each counts 1 / `most`, and older ones less."""

    most: int
    count: int = 0
    mean: torch.Tensor | None = None

    def add(self, value: torch.Tensor) -> None:
        """Take a scalar, on whatever device; it is not waited for."""
        self.count += 1
        if self.mean is None:
            self.mean = value.detach().clone()
        else:
            self.mean = self.mean.to(value.device).lerp(value.detach(), 1 / min(self.count, self.most))

    def value(self) -> float | None:
        """The mean; None without values."""
        return None if self.mean is None else self.mean.item()

    def tensor(self) -> torch.Tensor:
        """What `restore` goes on from, [count, mean], on the CPU."""
        mean = torch.zeros(()) if self.mean is None else self.mean.cpu()
        return torch.stack([torch.tensor(float(self.count), dtype=torch.float64), mean.double()])

    def restore(self, tensor: torch.Tensor) -> None:
        """Put back what `tensor` gave."""
        self.count = int(tensor[0])
        self.mean = tensor[1].float() if self.count else None
