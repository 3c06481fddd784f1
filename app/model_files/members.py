"""Members of an archive, told by their names alone: what is read, what is left out, what is refused and how to mend it.

A name is only ever compared. Files are written under numbers, so that no archive chooses a path.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from app.model_files.tailor_made import PYTHON_FILES

MAX_DEPTH = 32
MAX_NAME_BYTES = 255  # of one part, as file systems have it
# What `from_pretrained` reads beside weights, and what says where a model comes from.
KEPT = (".safetensors", ".json", ".txt", ".model", ".spm", ".vocab", ".tiktoken", ".jinja", ".md")
KEPT_NAMES = ("LICENSE", "NOTICE")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
FOREIGN_WEIGHTS = (".h5", ".hdf5", ".keras", ".msgpack", ".ot")
CODE = (".py", ".pyc", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".exe", ".jar")
DRIVE = re.compile(r"[A-Za-z]:")

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class Refusal:
    """Why a member makes the whole archive unusable. `what` follows its name; `fix` is a sentence without its end."""

    code: str
    what: str
    fix: str


UNUSUAL = Refusal(
    "unusual_name",
    "a name with backslashes, control characters, bytes that are not UTF-8, or too many or too long parts",
    "pack the files again under plain names",
)
ABSOLUTE = Refusal(
    "absolute_path", "an absolute path", "pack the directory from within: `tar -C DIRECTORY -czf m.tgz .`"
)
PARENT = Refusal(
    "path_traversal",
    "a path that leaves the archive (`..`)",
    "pack the directory from within: `tar -C DIRECTORY -czf m.tgz .`",
)
LINK = Refusal(
    "link",
    "a link, and links are never followed",
    "pack the files that links point to: `tar -h` follows them, as does `zip` without `-y`",
)
OTHER = Refusal("special_file", "a device, a pipe, a socket or a sparse file", "pack plain files only")
DUPLICATE = Refusal("duplicate_member", "in the archive more than once", "pack the directory again into a new archive")
PICKLE = Refusal(
    "pickle",
    "a pickle by its name, and loading a pickle can run any code",
    "leave it out; if it holds the weights, convert them on a machine where you trust the file, with the class that "
    '`architectures` in config.json names: `python -c "from transformers import AutoModelForMaskedLM as M, '
    "AutoTokenizer as T; M.from_pretrained('DIRECTORY').save_pretrained('CONVERTED'); "
    "T.from_pretrained('DIRECTORY').save_pretrained('CONVERTED')\"`",
)
FOREIGN = Refusal(
    "foreign_weights",
    "weights of another framework (TensorFlow, Flax, Rust)",
    "leave it out; weights are read from safetensors files only, which save_pretrained writes",
)
PROGRAM = Refusal("program_code", "program code, and no code of a model is ever run", "leave it out")


def parts_of(name: str) -> tuple[str, ...] | Refusal:
    """A name's parts without `.`; a Refusal where it is none that a plain directory packs to."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:  # tarfile's way to hold bytes that are not UTF-8
        return UNUSUAL
    if b"\\" in encoded or any(unicodedata.category(character) == "Cc" for character in name):
        return UNUSUAL
    if name.startswith("/") or DRIVE.match(name):
        return ABSOLUTE
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        return PARENT
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return UNUSUAL
    return parts


def refusal_of_kind(kind: Kind) -> Refusal | None:
    """Why a member of this kind may not be in an archive."""
    return {"link": LINK, "other": OTHER}.get(kind)


def refusal_of_name(name: str) -> Refusal | None:
    """Why a file of this name may not be in an archive. Tailor's own Python files may, where a model needs them."""
    if name in PYTHON_FILES:
        return None
    name = name.lower()
    if name.endswith((*PICKLES, ".bin.index.json")):
        return PICKLE
    if name.endswith(FOREIGN_WEIGHTS):
        return FOREIGN
    return PROGRAM if name.endswith(CODE) else None


def is_junk(parts: tuple[str, ...]) -> bool:
    """What a file manager adds by itself: macOS's resource forks and folder settings, Windows's thumbnails."""
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


def is_hidden(parts: tuple[str, ...]) -> bool:
    """`.git/` and the like."""
    return any(part.startswith(".") for part in parts)


def is_kept(name: str) -> bool:
    """Whether a file of this name, beside config.json, is one that a model is loaded or described by."""
    return name.endswith(KEPT) or name.partition(".")[0].upper() in KEPT_NAMES
