"""`python -m app.comparison`: two matrices of statistics on standard input, the tests as JSON on standard output.

The first line is `{"seed", "a", "b", "bytes"}`: what the columns of each mean, and how long the NumPy files behind it
are.
"""

import io
import json
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from app.catalog.measures import Statistics
from app.comparison.paired import System, differences, different_gold, discordance


def answer(question: dict[str, Any], matrices: bytes) -> dict[str, Any]:
    """Tests of two systems; only the number of rows that differ, where their right answers do."""
    first, _ = question["bytes"]
    a, b = (
        System(np.load(io.BytesIO(part), allow_pickle=False), Statistics.model_validate(question[name]))
        for name, part in (("a", matrices[:first]), ("b", matrices[first:]))
    )
    rows = len(a.values)
    unlike = abs(rows - len(b.values)) or different_gold(a, b)
    if unlike:
        return {"rows": rows, "different_rows": unlike}
    mcnemar = discordance(a, b)
    return {
        "rows": rows,
        "different_rows": 0,
        "metrics": [asdict(found) for found in differences(a, b, question["seed"])],
        "mcnemar": None if mcnemar is None else asdict(mcnemar),
    }


def main() -> None:
    """Read, compute, write."""
    line, _, matrices = sys.stdin.buffer.read().partition(b"\n")
    print(json.dumps(answer(json.loads(line), matrices), allow_nan=False))


if __name__ == "__main__":
    main()
