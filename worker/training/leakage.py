"""Records of validation and test that stand in training too."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence

from worker.protocol import Log
from worker.training.data import Records

LISTED = 10  # pairs of rows a message names before it says "and N more"


def find_leakage(splits: Mapping[str, Records], texts_of: Callable[[Records], Sequence[str]]) -> list[Log]:
    """What to tell of texts that two splits share, compared without case, width and white space."""
    first_row: dict[str, int] = {}
    for text, row in zip(texts_of(splits["train"]), splits["train"].column("row"), strict=True):
        first_row.setdefault(normalised(text), row)
    logs: list[Log] = []
    for split in ("validation", "test"):
        if split not in splits:
            continue
        texts = zip(texts_of(splits[split]), splits[split].column("row"), strict=True)
        pairs = [(first_row[key], row) for text, row in texts if (key := normalised(text)) in first_row]
        if pairs:
            shown = ", ".join(f"{theirs} (training {ours})" for ours, theirs in pairs[:LISTED])
            more = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
            noun = "row" if len(pairs) == 1 else "rows"
            logs.append(
                Log(
                    f"{len(pairs)} {noun} of the {split} file stand in the training file too, which makes {split} "
                    f"results look better than they are: {noun} {shown}{more}.",
                    level="warn",
                    data={"code": "leakage", "split": split, "count": len(pairs), "rows": pairs[:LISTED]},
                )
            )
    return logs


def normalised(text: str) -> str:
    """A text without differences of case, width and white space: what copies are found by."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
