"""Full fine-tuning: every parameter trains and nothing is added."""

from worker.training.method import Method


class FullFineTuning(Method):
    """The method of a job whose `adaptation` is empty."""
