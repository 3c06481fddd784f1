"""`python -m benchmarks`: all of them, one after the other."""

import subprocess
import sys

NAMES = (
    "training_speed",
    "accuracy",
    "adaptation",
    "few_shot",
    "domains",
    "politics",
    "question_answering",
    "written_texts",
    "language_modelling",
    "resampling",
    "turnaround",
    "status_polling",
    "upload",
    "checkpoints",
    "recovery",
    "redis_outage",
    "chaos",
)

for name in NAMES:
    print(f"== python -m benchmarks.{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
