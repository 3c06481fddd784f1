"""Every NLP task Tailor trains. A new task is an entry beside this file, named here, and a module in `worker/tasks`."""

from app.catalog.fill_mask import FILL_MASK
from app.catalog.question_answering import QUESTION_ANSWERING
from app.catalog.summarization import SUMMARIZATION
from app.catalog.task_spec import TaskSpec
from app.catalog.text_classification import TEXT_CLASSIFICATION
from app.catalog.text_generation import TEXT_GENERATION
from app.catalog.token_classification import TOKEN_CLASSIFICATION
from app.catalog.translation import TRANSLATION

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TEXT_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        QUESTION_ANSWERING,
        TRANSLATION,
        SUMMARIZATION,
        FILL_MASK,
        TEXT_GENERATION,
    )
}
DEFAULT_TASK = TEXT_CLASSIFICATION.name
