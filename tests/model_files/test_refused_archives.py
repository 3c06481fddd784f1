"""Archives that must not be, each refused by the name of what is in the way."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from app.datasets.errors import DataError
from app.model_files import unpack
from tests.model_files.archives import member, model_files, safetensors, tar, under, zipped
from tests.model_files.conftest import MIB, Desk

FILES = model_files()


def link_in_zip(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("vocab.txt")
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    ("archive", "code", "named"),
    [
        (tar(FILES | {"../../etc/passwd": b"x"}), "path_traversal", "'../../etc/passwd' is a path that leaves"),
        (tar(FILES | {"a/../../b.json": b"x"}), "path_traversal", "'a/../../b.json'"),
        (zipped(FILES | {"../up.json": b"x"}), "path_traversal", "'../up.json'"),
        (tar(FILES | {"/etc/passwd": b"x"}), "absolute_path", "'/etc/passwd' is an absolute path"),
        (zipped(FILES | {"C:/windows/a.json": b"x"}), "absolute_path", "'C:/windows/a.json'"),
        (zipped(FILES | {"bert\\config.json": b"x"}), "unusual_name", "backslashes"),
        (tar(FILES | {"a\nb.json": b"x"}), "unusual_name", r"'a\nb.json' is a name with"),
        (tar(FILES | {"a\udcff.json": b"x"}), "unusual_name", "not UTF-8"),
        (tar(FILES | {"/".join("a" * 40): b"x"}), "unusual_name", "too many"),
        (tar(FILES, member("vocab.txt", tarfile.SYMTYPE, "/etc/passwd")), "link", "'vocab.txt' is a link"),
        (tar(FILES, member("vocab.txt", tarfile.LNKTYPE, "config.json")), "link", "tar -h"),
        (zipped([*FILES.items(), (link_in_zip(0o120777), b"/etc/passwd")]), "link", "'vocab.txt' is a link"),
        (tar(FILES, member("null", tarfile.CHRTYPE)), "special_file", "'null' is a device"),
        (tar(FILES, member("pipe", tarfile.FIFOTYPE)), "special_file", "'pipe'"),
        (zipped([*FILES.items(), (link_in_zip(0o010644), b"")]), "special_file", "'vocab.txt'"),
        (tar(FILES | {"./config.json": b"{}"}), "duplicate_member", "'./config.json' is in the archive more than once"),
        (tar(FILES | {"pytorch_model.bin": b"x"}), "pickle", "'pytorch_model.bin' is a pickle by its name"),
        (tar(FILES | {"pytorch_model.bin.index.json": b"{}"}), "pickle", "save_pretrained('CONVERTED')"),
        *((tar(FILES | {f"sub/x{end}": b"x"}), "pickle", f"'sub/x{end}'") for end in (".pt", ".PTH", ".ckpt", ".pkl")),
        (tar(FILES | {"tf_model.h5": b"x"}), "foreign_weights", "'tf_model.h5' is weights of another framework"),
        (tar(FILES | {"flax_model.msgpack": b"x"}), "foreign_weights", "'flax_model.msgpack'"),
        (tar(FILES | {"modeling_bert.py": b"x"}), "program_code", "'modeling_bert.py' is program code"),
        (tar(under("a", FILES) | under("b", FILES)), "no_config", "config.json lies in 'a/', 'b/' and not at the root"),
        (tar(under("a", FILES) | {"notes.txt": b"x"}), "no_config", "lies in 'a/'"),
        (tar({}), "no_files", "holds no files"),
        (zipped({"__MACOSX/._x": b"x"}), "no_files", "holds no files"),
    ],
)
def test_what_may_not_be_in_an_archive_is_refused_by_name(desk: Desk, archive: bytes, code: str, named: str):
    error = desk.refused(archive)
    assert named in error.message
    assert error.code == code
    assert "Fix: " in error.message
    assert not (desk.run_dir / "model" / "config.json").exists()
    assert sorted(path.name for path in desk.run_dir.parent.iterdir()) == ["run"]


def test_everything_that_is_in_the_way_is_named_at_once(desk: Desk):
    pickles = {f"rng_state_{index}.pth": b"x" for index in range(12)}
    error = desk.refused(tar(FILES | pickles | {"train.py": b"x"}, member("latest", tarfile.SYMTYPE, "a")))
    assert error.code == "pickle"
    assert "'rng_state_0.pth'" in error.message
    assert "and 2 more are each a pickle" in error.message
    assert "'train.py' is program code" in error.message
    assert "'latest' is a link" in error.message
    assert [problem["count"] for problem in error.data["problems"]] == [12, 1, 1]


def test_a_member_after_a_refused_one_is_not_written(desk: Desk):
    desk.refused(tar({"evil.py": b"x"} | FILES))
    assert desk.names == []


def without(name: str) -> dict[str, bytes]:
    return {other: content for other, content in FILES.items() if other != name}


SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (without("config.json"), "it has no config.json"),
        (without("config.json") | {"adapter_config.json": b"{}"}, "it is an adapter (PEFT)"),
        (without("tokenizer.json"), "it has no tokenizer.json (fast tokenizer)"),
        (without("model.safetensors"), "it has no safetensors weights"),
        (FILES | {"config.json": b"[]"}, "it is no JSON object"),
        (FILES | {"config.json": b"[" * 100_000}, "its config.json cannot be read"),
        (FILES | {"config.json": b"\xff"}, "its config.json cannot be read"),
        (model_files(model_type="no-such-model"), "its model_type 'no-such-model' is none that can be fine-tuned here"),
        (model_files(model_type=7), "names no model_type"),
        (model_files(auto_map={"AutoModel": "modeling.Model"}), "`auto_map` in config.json"),
        (FILES | {"tokenizer_config.json": b'{"auto_map": {}}'}, "`auto_map` in tokenizer_config.json"),
        (FILES | {"tokenizer.json": b'{"model": 1}'}, "its tokenizer.json cannot be read"),
        (FILES | {"model.safetensors": b"\x80\x04K\x01."}, "model.safetensors is not a safetensors file or is cut off"),
        (FILES | {"model.safetensors": safetensors("a")[:-1]}, "model.safetensors is cut off"),
        (FILES | {"model.safetensors": safetensors("a") + b"x"}, "model.safetensors is damaged"),
        (FILES | {"model.safetensors": safetensors()}, "holds no tensors"),
        (without("model.safetensors") | {"other.safetensors": safetensors("a")}, "found other.safetensors"),
        (
            without("model.safetensors") | {INDEX: json.dumps({"weight_map": {"a": SHARD}}).encode()},
            f"it lacks {SHARD}, which {INDEX} names",
        ),
        (
            without("model.safetensors")
            | {INDEX: json.dumps({"weight_map": {"a": SHARD}}).encode(), SHARD: safetensors("b")},
            f"{SHARD} has no tensor 'a'",
        ),
        (without("model.safetensors") | {INDEX: b'{"weight_map": {"a": "../x.safetensors"}}'}, "'../x.safetensors'"),
        (without("model.safetensors") | {INDEX: b"[]"}, "names no shards"),
    ],
)
def test_what_is_no_usable_model_says_why(desk: Desk, files: dict[str, bytes], named: str):
    error = desk.refused(tar(files))
    assert named in error.message
    assert error.code == "model_unusable"


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ([1], "its header is not an object"),
        ({"a": 1}, "tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, "tensor 'a'"),
        ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, "tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, "tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, "tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "begins at 4"),
        ({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}, "begins at 0 and not at 8"),
    ],
)
def test_weights_whose_header_does_not_add_up_are_refused(desk: Desk, header: object, named: str):
    encoded = json.dumps(header).encode()
    error = desk.refused(tar(FILES | {"model.safetensors": struct.pack("<Q", len(encoded)) + encoded + bytes(8)}))
    assert "model.safetensors" in error.message
    assert named in error.message


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (b"just some text", "not_an_archive", "no tar or zip archive"),
        (gzip.compress(b'{"text": "a"}\n' * 100), "not_an_archive", "decompresses to no tar archive"),
        (bz2.compress(tar(FILES, mode="w:")), "not_an_archive", "it is a bzip2 file"),
        (lzma.compress(tar(FILES, mode="w:")), "not_an_archive", "it is an xz file"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "not_an_archive", "it is a 7z archive"),
        (safetensors("a"), "not_an_archive", "it is a single safetensors file"),
        (gzip.compress(zipped(FILES)), "not_an_archive", "decompresses to no tar archive"),
        (tar(FILES)[:-20], "truncated_gzip", "cut off"),
        (tar(FILES)[:200] + b"\0" * 50 + tar(FILES)[250:], "corrupt_gzip", "damaged"),
        (tar(FILES, mode="w:")[:2000], "damaged_archive", "damaged or cut off"),
        (tar(FILES, mode="w:").rstrip(b"\0"), "damaged_archive", "damaged or cut off"),
        (zipped(FILES)[:-30], "damaged_archive", "File is not a zip file"),
        (zipped(FILES, zipfile.ZIP_STORED).replace(b"bert", b"bart"), "damaged_archive", "Bad CRC-32"),
        (zipped(FILES, zipfile.ZIP_LZMA), "unknown_compression", "'config.json' is compressed by method 14"),
    ],
)
def test_what_is_no_whole_archive_is_told_from_its_bytes(desk: Desk, content: bytes, code: str, named: str):
    error = desk.refused(content)
    assert named in error.message
    assert error.code == code


def test_a_damaged_header_in_the_middle_does_not_pass_for_the_end(desk: Desk):
    archive = bytearray(tar(FILES | {"notes.csv": b"x"}, mode="w:"))
    archive[archive.index(b"notes.csv")] ^= 0xFF
    assert desk.refused(bytes(archive)).code == "damaged_archive"


def test_a_cut_off_tar_does_not_pass_where_whole_members_are_left(desk: Desk):
    archive = tar(FILES | {"notes.csv": b"x"}, mode="w:")
    error = desk.refused(archive[: archive.index(b"notes.csv")])
    assert "the end-of-archive block is missing" in error.message


def test_an_encrypted_zip_is_refused(desk: Desk):
    archive = bytearray(zipped(FILES))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(magic) + offset] |= 1
    error = desk.refused(bytes(archive), "bert.zip")
    assert (error.code, "'config.json' is encrypted" in error.message) == ("encrypted_archive", True)


def test_a_sparse_file_is_refused(desk: Desk):
    info = member("config.json", tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    error = desk.refused(bytes(header) + bytes(1024))
    assert (error.code, "'config.json'" in error.message) == ("special_file", True)


ZEROS = bytes(8 * MIB)


@pytest.mark.parametrize(
    ("archive", "filename"),
    [(tar(FILES | {"a.safetensors": ZEROS}), "bert.tar.gz"), (zipped(FILES | {"a.safetensors": ZEROS}), "bert.zip")],
)
def test_a_bomb_is_refused_with_its_ratio(desk: Desk, archive: bytes, filename: str):
    error = desk.refused(archive, filename, max_decompressed_bytes=MIB)
    assert error.code == "decompression_bomb"
    assert "more than 1,048,576 bytes, the limit TAILOR_MAX_DECOMPRESSED_BYTES (" in error.message
    assert " times the " in error.message
    assert sum(path.stat().st_size for path in (desk.run_dir / "model").iterdir()) <= MIB


def test_a_zip_that_lies_about_its_sizes_cannot_outgrow_them(desk: Desk):
    archive = bytearray(zipped({"config.json": ZEROS}))
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = archive.index(magic) + offset
        archive[start : start + 4] = struct.pack("<I", 100)
    error = desk.refused(bytes(archive), "bert.zip", max_decompressed_bytes=MIB)
    assert error.code == "damaged_archive"
    assert sum(path.stat().st_size for path in (desk.run_dir / "model").iterdir()) <= 100


def test_a_bomb_behind_the_end_of_a_tar_is_met_too(desk: Desk):
    archive = gzip.compress(tar(FILES, mode="w:") + ZEROS)
    assert desk.refused(archive, max_decompressed_bytes=MIB).code == "decompression_bomb"


def test_more_members_than_a_model_has_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 20)
    error = desk.refused(tar(FILES | {f"{index}.txt": b"" for index in range(20)}))
    assert (error.code, "more than 20 members" in error.message) == ("too_many_members", True)


def test_only_weights_may_be_large(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "MAX_SMALL_FILE_BYTES", 10_000)
    large = {
        "vocab.txt": bytes(20_000),
        "model.safetensors": safetensors("a", numbers=5000),
        "corpus.csv": bytes(20_000),
    }
    error = desk.refused(tar(FILES | large))
    assert error.code == "file_too_large"
    assert "'vocab.txt' is larger than" in error.message
    assert "model.safetensors'" not in error.message
    assert "corpus.csv" not in error.message


CHECK = """
import resource, sys
from pathlib import Path
from app.catalog.plan import RegistrationPlan
from app.datasets.errors import DataError
from app.model_files.check import check
run_dir = Path(sys.argv[1])
plan = RegistrationPlan.model_validate_json((run_dir / "plan.json").read_text())
before = resource.getrlimit(resource.RLIMIT_DATA)
try:
    check(plan, run_dir, lambda _: None, {})
except DataError as error:
    print(error.code, error.message)
assert resource.getrlimit(resource.RLIMIT_DATA) == before
"""


def test_a_header_that_asks_for_memory_meets_the_limit(desk: Desk):
    """In a process of its own: what the tests before this one have let go of would be memory below the limit here."""
    header = member("x", tarfile.GNUTYPE_LONGNAME)
    header.size = 700 * MIB
    bomb = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(700 * MIB), 1)
    (desk.run_dir / "source").write_bytes(bomb)
    plan = desk.plan("bert.tar.gz", memory_bytes=512 * MIB, max_decompressed_bytes=1024 * MIB)
    (desk.run_dir / "plan.json").write_text(plan.model_dump_json())
    program = [sys.executable, "-c", CHECK, str(desk.run_dir)]
    done = subprocess.run(
        program, check=True, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.startswith("model_too_large_to_check bert.tar.gz: ")
    assert "TAILOR_PREPARATION_MEMORY_BYTES" in done.stdout


def test_time_is_limited(desk: Desk):
    with pytest.raises(DataError) as caught:
        desk.check(tar(FILES), timeout_s=1e-9)
    assert caught.value.code == "preparation_timeout"


@pytest.mark.parametrize("archive", [tar(FILES, mode="w:"), zipped(FILES)], ids=["tar", "zip"])
def test_no_damage_makes_more_than_a_refusal(desk: Desk, archive: bytes):
    """What a reader raises for bytes that lie must be an error of the file, never one of ours that is tried again."""
    chance = random.Random(7)
    for round_ in range(150):
        damaged = bytearray(archive)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 0x7F, 0xFF, chance.randrange(256)))
        desk.run_dir = desk.run_dir.parent / f"run-{round_}"
        desk.run_dir.mkdir()
        with contextlib.suppress(DataError):
            desk.check(bytes(damaged))


def test_a_link_among_downloaded_files_is_refused(desk: Desk):
    (desk.run_dir / "source").mkdir()
    (desk.run_dir / "source" / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"'config.json' is a link"):
        desk.check_source("org/bert")


def test_a_pickle_uploaded_by_itself_is_named_as_one(desk: Desk):
    """A `pytorch_model.bin` is a zip, and looks like an archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
        archive.writestr("archive/data/0", b"x")
    assert "'archive/data.pkl' is a pickle" in desk.refused(content.getvalue(), "pytorch_model.bin").message
