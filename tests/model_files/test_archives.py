"""Archives of models that are what they should be, as tools write them."""

import gzip
import io
import tarfile
import zipfile

import pytest

from tests.model_files.archives import member, model_files, safetensors, tar, under, zipped
from tests.model_files.conftest import Desk

FILES = model_files()


@pytest.mark.parametrize(
    "archive",
    [
        tar(FILES, mode="w:"),
        tar(FILES),
        gzip.compress(tar(FILES, mode="w:")[:5000]) + gzip.compress(tar(FILES, mode="w:")[5000:]),
        zipped(FILES),
        zipped(FILES, zipfile.ZIP_STORED),
        tar({f"./{name}": content for name, content in FILES.items()}, member("./", tarfile.DIRTYPE)),
        tar(under("my-bert", FILES), member("my-bert", tarfile.DIRTYPE)),
        tar(under("home/ann/models/my-bert", FILES)),
        zipped([("my-bert/", b""), *under("my-bert", FILES).items()]),
    ],
    ids=[
        "tar",
        "tar.gz",
        "two gzip members",
        "zip",
        "stored zip",
        "tar of .",
        "folder",
        "deep folder",
        "zipped folder",
    ],
)
def test_a_model_is_unpacked_to_its_files(desk: Desk, archive: bytes):
    model = desk.check(archive)
    assert (model.family, model.max_length, model.left_out) == ("bert", 48, [])
    assert {name: (desk.run_dir / "model" / name).read_bytes() for name in desk.names} == FILES
    assert model.bytes == sum(map(len, FILES.values()))


def test_a_zip64_archive_is_read(desk: Desk):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
    desk.check(buffer.getvalue())
    assert desk.names == sorted(FILES)


def test_what_macos_adds_is_ignored(desk: Desk):
    junk = {"__MACOSX/my-bert/._config.json": b"x", "my-bert/._model.safetensors": b"x", ".DS_Store": b"x"}
    pickled_junk = {"__MACOSX/my-bert/._pytorch_model.bin": b"x"}
    model = desk.check(zipped(junk | pickled_junk | under("my-bert", FILES)), "bert.zip")
    assert (desk.names, model.left_out) == (sorted(FILES), [])


def test_what_is_no_part_of_the_model_is_left_out_and_named(desk: Desk):
    extra = {
        "README.md": b"# A model",
        "LICENSE": b"Apache-2.0",
        "1_Pooling/config.json": b"{}",
        "onnx/model.onnx": b"x",
        "onnx/config.json": b"{}",
        ".git/config": b"x",
        ".gitattributes": b"x",
        "train.csv": b"x",
        "model.fp16.safetensors": safetensors("a"),
    }
    model = desk.check(tar(FILES | extra))
    assert desk.names == sorted([*FILES, "README.md", "LICENSE"])
    assert model.left_out == [".git/", ".gitattributes", "1_Pooling/", "model.fp16.safetensors", "onnx/", "train.csv"]


def test_shards_are_those_that_the_index_names(desk: Desk):
    shards = {
        "model-00001-of-00002.safetensors": safetensors("a", "b"),
        "model-00002-of-00002.safetensors": safetensors("c"),
        "consolidated.safetensors": safetensors("a", "b", "c"),
        "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", '
        b'"b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}}',
    }
    files = {name: content for name, content in FILES.items() if name != "model.safetensors"} | shards
    model = desk.check(tar(files))
    assert model.left_out == ["consolidated.safetensors"]
    assert desk.names == sorted(set(files) - {"consolidated.safetensors"})


def test_a_directory_from_the_hub_goes_the_same_way(desk: Desk):
    (desk.run_dir / "source").mkdir()
    for name, content in (FILES | {"notes.csv": b"x"}).items():
        (desk.run_dir / "source" / name).write_bytes(content)
    model = desk.check_source("org/bert")
    assert (desk.names, model.left_out) == (sorted(FILES), ["notes.csv"])
    assert desk.said[0] == "Unpacking org/bert"
