"""The Python files that models carry, by their names there: copies of modules of ours. Imports none of them."""

from pathlib import Path

from app.model_files.tailor_made import CLEANER, MODELING

WORKER = Path(__file__).parent
PYTHON_FILES = {
    MODELING: WORKER / "heads" / "modeling_crf.py",
    CLEANER: WORKER / "training" / "text_preprocessing.py",
}
