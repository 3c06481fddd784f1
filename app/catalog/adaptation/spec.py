"""What an entry of the method catalogue says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

ALL_TASKS = "*"


class MethodOptions(BaseModel):
    """Options of a method: unknown names and numbers that are none are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class MethodSpec:
    """A method: its options and the tasks it serves; `impl` names its class.

    `conflicts` are the methods that it makes no sense together with, and why; one side names a pair. `example` are
    options that a job could give.
    """

    name: str
    title: str
    options: type[MethodOptions]
    impl: str
    tasks: tuple[str, ...] = (ALL_TASKS,)
    conflicts: Mapping[str, str] = field(default_factory=dict[str, str])
    example: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def serves(self, task: str) -> bool:
        """Whether jobs of this task can ask for it."""
        return ALL_TASKS in self.tasks or task in self.tasks
