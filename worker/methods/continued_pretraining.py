"""Continued pretraining (Gururangan et al. 2020), as a method of the task's own training."""

from worker.training.method import Method


class ContinuedPretraining(Method):
    """Changes nothing: the stage before the task does the work, and the task begins with the weights it leaves."""
