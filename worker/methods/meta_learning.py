"""Meta-learning: the stage before the task's own training does the work."""

from worker.training.method import Method


class MetaLearning(Method):
    """Changes nothing of the task's own training."""
