"""What a standby child does before it has a plan, so that its first step comes quickly."""

import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from app.catalog.methods import METHODS
from app.catalog.tasks import TASKS
from worker.evaluation import run as evaluation
from worker.training import run
from worker.training.device import fast_precision
from worker.training.interfaces import task_class
from worker.training.method import method_class

PRELOADED = (run, evaluation)


def warm_up() -> None:
    """Import what any plan needs, and take one step of a tiny BERT.

    The step loads Transformers' model code, starts the thread pool and builds the first matrix kernels.
    """
    for task in TASKS.values():
        task_class(task)
    for method in METHODS.values():
        method_class(method)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=64)
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision() == "bf16"):
        loss = model(input_ids=torch.ones(2, 8, dtype=torch.long), labels=torch.tensor([0, 1])).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
