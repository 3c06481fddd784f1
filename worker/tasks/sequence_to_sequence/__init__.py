"""Translation and summarization: a text is read and another is written.

`task` is what the engine drives. What is particular to each of the two is a `goal`, one module each.
"""

from worker.tasks.sequence_to_sequence.task import SequenceToSequence

__all__ = ["SequenceToSequence"]
