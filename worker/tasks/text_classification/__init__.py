"""Text classification: texts, or pairs of texts, with one label, any number of labels, or a number.

`task` is what the engine drives. What is predicted is a `goal`, one module for each variant of the catalogue.
"""

from worker.tasks.text_classification.task import TextClassification

__all__ = ["TextClassification"]
