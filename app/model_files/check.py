"""From an archive or a downloaded directory to a model that can be fine-tuned, or the reason why it cannot."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.catalog.plan import RegistrationPlan
from app.catalog.tasks import TASKS
from app.datasets.errors import DataError, UnreadableFileError
from app.datasets.lengths import load_tokenizer
from app.datasets.limits import Deadline, apply_limits
from app.datasets.source import open_source
from app.model_files import tailor_made, weights
from app.model_files.archives import read_archive, read_directory
from app.model_files.inspection import BaseModel, inspect
from app.model_files.members import PROGRAM
from app.model_files.tailor_made import Training, UnreadableSettingsError
from app.model_files.tokenizers import FAST
from app.model_files.unpack import Refusals, Unpacking

MODEL = "model"


@dataclass(frozen=True)
class CheckedModel:
    """A model in the directory `path`, relative to the run directory, and what its archive held beside it.

    `rewritten` are the Python files of Tailor's own that were put into it anew; `trained` says how Tailor trained it.
    """

    path: str
    family: str
    max_length: int | None
    bytes: int
    left_out: list[str]
    rewritten: list[str]
    trained: Training | None


def check(
    plan: RegistrationPlan, run_dir: Path, log: Callable[[str], None], python_files: Mapping[str, Path]
) -> CheckedModel:
    """Unpack `plan.source` into `model/` and prove that it is a model. Works within `plan.limits`.

    `python_files` are Tailor's own by name; a model of Tailor's gets copies of those that it needs, whatever came with
    it. Raises DataError for anything else; the message names every member that is in the way.
    """
    try:
        with apply_limits(plan.limits) as deadline:
            return _check(plan, run_dir, deadline, log, python_files)
    except UnreadableFileError as error:
        problem = error.problem
        raise DataError(problem.code, f"{plan.filename}: {problem.message}. Fix: {problem.fix}.") from None
    except MemoryError:
        raise DataError(
            "model_too_large_to_check",
            f"{plan.filename}: reading it needs more than {plan.limits.memory_bytes:,} bytes of memory, the limit "
            "TAILOR_PREPARATION_MEMORY_BYTES. Fix: pack fewer and smaller files, or raise the setting.",
        ) from None


def _check(
    plan: RegistrationPlan,
    run_dir: Path,
    deadline: Deadline,
    log: Callable[[str], None],
    python_files: Mapping[str, Path],
) -> CheckedModel:
    path = run_dir / plan.source
    if path.is_dir():
        entries = read_directory(path)
    else:
        entries = read_archive(open_source(path, plan.filename, plan.limits, deadline))
    directory = run_dir / MODEL
    log(f"Unpacking {plan.filename}")
    unpacking = Unpacking(plan.filename, directory, plan.limits.max_decompressed_bytes, deadline)
    left_out = unpacking.run(entries)
    log("Checking configuration, tokenizer and weights")
    found = inspect(plan.model, directory)
    try:
        rewritten = tailor_made.python_files(directory)
        problem = found.problem or _further_problem(found)
    except UnreadableSettingsError as error:
        rewritten, problem = [], str(error)
    _refuse_foreign(plan.filename, sorted({*unpacking.python_files}.difference(rewritten)))
    if problem is not None:
        raise DataError("model_unusable", f"{plan.filename}: {problem}.")
    for name in rewritten:
        shutil.copyfile(python_files[name], directory / name)
    if rewritten:
        log(f"{' and '.join(rewritten)} put in anew: Tailor's own code, of which an archive's copy is never used")
    unused = [file for file in directory.glob("*.safetensors") if file.name not in weights.used_files(directory)]
    for file in unused:
        file.unlink()
    assert found.family is not None
    size = sum(file.stat().st_size for file in directory.iterdir())
    left_out = sorted({*left_out, *(file.name for file in unused)})
    trained = tailor_made.training(directory)
    return CheckedModel(MODEL, found.family, found.max_length, size, left_out, rewritten, trained)


def _refuse_foreign(filename: str, python_files: Sequence[str]) -> None:
    """Refuse files that are named as Tailor's own are, beside a model that needs none of them."""
    refusals = Refusals()
    for name in python_files:
        refusals.add(PROGRAM, name)
    if refusals:
        raise refusals.error(filename)


def _further_problem(found: BaseModel) -> str | None:
    known = sorted({family for spec in TASKS.values() for family in spec.model_types})
    if found.family not in known:
        return f"its model_type {found.family!r} is none that can be fine-tuned here; these are: {', '.join(known)}"
    if not (found.directory / FAST).is_file():
        return None  # SentencePiece's own library reads it, in the process that trains
    try:
        load_tokenizer(found.directory / FAST)
    except ValueError as error:
        return f"its tokenizer.json cannot be read: {error}"
    return None
