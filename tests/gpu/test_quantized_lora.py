"""QLoRA on a real device: the base in 4 or 8 bits, an adapter that is a whole model once it is merged."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.test_adapters import on_its_base
from tests.contract.test_methods import CLASSIFIER, plan_of, run
from tests.contract.tiny import after_step, train, write_tiny_encoder
from worker.protocol import Log
from worker.training.adapter_files import whole_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_an_adapter_trains_on_a_quantized_base_and_goes_on_from_its_checkpoint(bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = write_tiny_encoder(tmp_path / "base")
    adaptation: dict[str, dict[str, Any]] = {"lora": {"r": 4, "artifact": "adapter", "quantization": bits}}
    settings: dict[str, Any] = {"n_epochs": 20, "learning_rate": 5e-3}
    plan = plan_of(tmp_path / "run", base, CLASSIFIER, adaptation, **settings)
    stopped = train(plan, tmp_path / "run", after_step(5))
    assert stopped.stopped
    last = max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.startswith("step-"))
    outcome = run(tmp_path / "run", base, CLASSIFIER, adaptation, resume_from=f"checkpoints/{last}", **settings)
    assert outcome.losses[-1] < stopped.losses[0]
    told = next(log.data for log in outcome.of(Log) if "trained_parameters" in log.data)
    assert 0 < told["trained_parameters"] < told["parameters"]
    # Merged into the base in full precision, it is nearly what was scored.
    merged = whole_model(on_its_base(tmp_path / "run" / "artifact", base))
    assert (merged / "model.safetensors").stat().st_size > (base / "model.safetensors").stat().st_size
