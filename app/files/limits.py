"""How large what a client sends may be."""

from dataclasses import dataclass

from app.errors import AppError


@dataclass(frozen=True)
class SizeLimit:
    """The most bytes that a file or a part may have, and the error for one that has more."""

    bytes: int
    too_large: AppError


def file_limit(max_bytes: int) -> SizeLimit:
    """What TAILOR_MAX_FILE_BYTES allows."""
    message = f"The file is larger than the {max_bytes:,} bytes that TAILOR_MAX_FILE_BYTES allows."
    return SizeLimit(max_bytes, AppError(413, "file_too_large", message, "file"))
