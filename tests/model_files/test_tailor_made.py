"""Models that Tailor made and that come back as archives: their Python files are known, and never the archive's own."""

import json
from typing import Any

import pytest

from app.model_files.tailor_made import AUTO_MAP, CLEANER, MODELING, PIPELINES
from tests.model_files.archives import Files, model_files, tar, under
from tests.model_files.conftest import Desk
from worker.python_files import PYTHON_FILES

LABELS = ["O", "B-PER", "I-PER"]
FIELD: dict[str, Any] = {"crf_window": 48, "auto_map": AUTO_MAP, "custom_pipelines": PIPELINES}
CLEANING = {"lowercase": True}
EVIL = b"raise RuntimeError('code of an archive was run')"


def settings(**cleaning: Any) -> Files:
    return {"preprocessing.json": json.dumps({"format": "tailor-preprocessing-1", "cleaning": cleaning}).encode()}


def manifest(**changes: Any) -> Files:
    said: dict[str, Any] = {
        "job": "ftjob-1",
        "task": {"type": "token-classification", "head": "crf"},
        "seed": 7,
        "hyperparameters": {"max_length": 24, "precision": "bf16", "n_epochs": 3},
        "labels": LABELS,
    }
    return {"manifest.json": json.dumps(said | changes).encode()}


def tagger(**config: Any) -> Files:
    return model_files(**{"id2label": {str(index): label for index, label in enumerate(LABELS)}, **FIELD, **config})


def content(desk: Desk, name: str) -> bytes:
    return (desk.run_dir / "model" / name).read_bytes()


@pytest.mark.parametrize("folder", ["", "my-model/"])
@pytest.mark.parametrize("python", [b"# of another version", EVIL, None])
def test_python_files_of_ours_are_put_in_anew_whatever_the_archive_has(desk: Desk, folder: str, python: bytes | None):
    files = tagger() | settings(**CLEANING) | manifest()
    if python is not None:
        files = {MODELING: python, CLEANER: python} | files
    model = desk.check(tar(under(folder[:-1], files) if folder else files))
    assert desk.names == sorted({*files, MODELING, CLEANER})
    assert (model.rewritten, model.left_out) == ([MODELING, CLEANER], [])
    for name in (MODELING, CLEANER):
        assert content(desk, name) == PYTHON_FILES[name].read_bytes()
    assert desk.said[-1].startswith("modeling_crf.py and preprocessing.py put in anew")
    assert model.bytes == sum(path.stat().st_size for path in (desk.run_dir / "model").iterdir())


def test_a_manifest_of_ours_says_how_the_model_was_trained(desk: Desk):
    model = desk.check(tar(tagger() | manifest()))
    assert model.trained is not None
    assert model.trained.model_dump() == {
        "task": {"type": "token-classification", "head": "crf"},
        "labels": LABELS,
        "seed": 7,
        "max_length": 24,
        "precision": "bf16",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": b'{"files": []}'},
        {"manifest.json": b"["},
        manifest(task={"type": "no-such-task"}),
        manifest(task={"type": ["token-classification"]}),
        manifest(task={"type": "token-classification", "head": "other"}),
        manifest(seed=-1),
        manifest(hyperparameters={"max_length": 10**9, "precision": "fp32"}),
        manifest(labels=LABELS[::-1]),
        manifest(labels="O"),
        model_files() | manifest(),
    ],
)
def test_a_manifest_that_is_not_of_this_model_says_nothing(desk: Desk, files: Files):
    assert desk.check(tar(tagger() | files)).trained is None


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (model_files() | {MODELING: EVIL}, MODELING),
        (model_files(crf_window=48) | {MODELING: EVIL}, MODELING),
        (tagger(auto_map={**AUTO_MAP, "AutoConfig": "modeling_crf.Config"}) | {MODELING: EVIL}, MODELING),
        (tagger(custom_pipelines={"text-generation": {"impl": "modeling_crf.Evil"}}) | {MODELING: EVIL}, MODELING),
        (tagger(crf_window=None) | {MODELING: EVIL}, MODELING),
        (tagger() | {f"code/{MODELING}": EVIL}, f"code/{MODELING}"),
        (tagger() | {CLEANER: EVIL}, CLEANER),
        (tagger() | settings() | {CLEANER: EVIL}, CLEANER),
        (
            tagger() | {CLEANER: EVIL, "preprocessing.json": b'{"format": "other", "cleaning": {"lowercase": true}}'},
            CLEANER,
        ),
        (tagger() | settings(**CLEANING) | {"Preprocessing.py": EVIL}, "Preprocessing.py"),
    ],
)
def test_what_only_bears_the_name_of_a_file_of_ours_is_program_code(desk: Desk, files: Files, named: str):
    error = desk.refused(tar(files))
    assert error.code == "program_code"
    assert f"'{named}' is program code" in error.message


def test_code_that_a_configuration_of_another_asks_for_is_refused_without_its_file_too(desk: Desk):
    error = desk.refused(tar(tagger(auto_map={"AutoModelForTokenClassification": "modeling_crf.Other"})))
    assert (error.code, "`auto_map` in config.json" in error.message) == ("model_unusable", True)


@pytest.mark.parametrize("cleaning", [{"lowercase": "yes"}, {"run": "rm"}, {"stop_words": "xx"}])
def test_damaged_settings_of_ours_are_named(desk: Desk, cleaning: dict[str, Any]):
    error = desk.refused(tar(tagger() | settings(**cleaning)))
    assert error.code == "model_unusable"
    assert f"its preprocessing.json cannot be read: cleaning.{next(iter(cleaning))}" in error.message
