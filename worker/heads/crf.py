"""The same head while it trains: the log-likelihood is that of pytorch-crf."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torchcrf import CRF
from transformers import PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from app.model_files.tailor_made import AUTO_MAP, MODELING, PIPELINES, WINDOW
from worker.heads.modeling_crf import CrfMixin, crf_class
from worker.python_files import PYTHON_FILES


class BatchFirstCrf(CRF):
    """A field over [batch, words, labels]."""

    def __init__(self, num_tags: int) -> None:
        super().__init__(num_tags, batch_first=True)


class TrainedCrfMixin(CrfMixin):
    """Also answers with the negative log-likelihood of the right tags."""

    chain_class = BatchFirstCrf

    def forward(
        self, *args: Any, words: torch.Tensor | None = None, tags: torch.Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """With `tags` [batch, words] beside `words`: `loss` [batch], in fp32 whatever the body computes in."""
        output = super().forward(*args, words=words, **kwargs)
        if words is None or tags is None or output.logits is None:
            return output
        with torch.autocast(output.logits.device.type, enabled=False):
            loss = -self.crf(output.logits.float(), tags, words >= 0, reduction="none")
        return TokenClassifierOutput(loss=loss, logits=output.logits)


def trained_class(config: Any) -> type[PreTrainedModel]:
    """The token classifier of a configuration's family with the field on top."""
    return crf_class(type(config), TrainedCrfMixin)


def add_modeling_file(directory: Path, window: int) -> None:
    """Have a directory with the weights of such a model load without Tailor."""
    shutil.copyfile(PYTHON_FILES[MODELING], directory / MODELING)
    path = directory / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config |= {WINDOW: window, "auto_map": AUTO_MAP, "custom_pipelines": PIPELINES}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
