"""What contract tests train: a tiny encoder, records, plans; and how they run the engine."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.state import AcceleratorState, GradientState
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, TrainingPlan
from app.catalog.preprocessing import Preprocessing
from app.catalog.records import RecordField, extra
from app.catalog.tasks import TASKS
from app.datasets.canonical import ROW, schema_of
from worker.protocol import Event, Metrics, Result
from worker.training.failures import StoppedError
from worker.training.run import run

WINDOW = 48
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
Row = dict[str, Any]
E = TypeVar("E", bound=Event)


def write_tiny_encoder(directory: Path) -> Path:
    """A random BERT with a WordPiece vocabulary of the catalogue's example words and all lower-case letters."""
    texts = example_texts()
    words = sorted({word for text in texts for word in text.lower().replace(",", " ").replace(".", " ").split()})
    letters = [*"abcdefghijklmnopqrstuvwxyz.,'", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters, *(w for w in words if len(w) > 1)])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=WINDOW,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    torch.manual_seed(7)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=WINDOW,
        )
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def example_texts() -> list[str]:
    """Every text in the catalogue's examples."""
    rows = [row for task in TASKS.values() for variant in task.variants for row in variant.example]
    return [text for row in rows for value in row.values() for text in strings(value)]


def write_tiny_decoder(directory: Path) -> Path:
    """A random GPT-2 with a byte-level vocabulary of the catalogue's examples, without a chat template or padding."""
    rows = [row for variant in TASKS["text-generation"].variants for row in variant.example]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    texts = [text for row in rows for value in row.values() for text in strings(value)]
    backend.train_from_iterator([*texts, *["### User:\n", "### Assistant:\n", "### System:\n"] * 9], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=WINDOW,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
    )
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=WINDOW, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def strings(value: object) -> list[str]:
    """Every string in a value of a record."""
    if isinstance(value, dict | list):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in strings(item)]
    return [value] if isinstance(value, str) else []


@dataclass(frozen=True)
class Outcome:
    """What a run said, and whether it ended because it was stopped."""

    run_dir: Path
    events: list[Event]
    stopped: bool

    def of(self, kind: type[E]) -> list[E]:
        """Its events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> list[float]:
        """Training loss of every step."""
        return [event.values["loss"] for event in self.of(Metrics) if event.split == "train"]

    @property
    def result(self) -> Result:
        """Its one result."""
        (result,) = self.of(Result)
        return result

    @property
    def weights(self) -> str:
        """SHA-256 of the final weights."""
        return hashlib.sha256((self.run_dir / "artifact" / "model.safetensors").read_bytes()).hexdigest()


def make_plan(
    run_dir: Path,
    base: Path,
    train: Sequence[Row],
    validation: Sequence[Row] | None = None,
    test: Sequence[Row] | None = None,
    *,
    seed: int = 5,
    resume_from: str | None = None,
    checkpoint_interval_s: float = 600.0,
    task: str | dict[str, Any] = "text-classification",
    adaptation: dict[str, dict[str, Any]] | None = None,
    model: str = "local/tiny",
    preprocessing: dict[str, Any] | None = None,
    target: Sequence[str] = (),
    method_files: Mapping[str, tuple[dict[str, Any], Sequence[Row]]] | None = None,
    **hyperparameters: Any,
) -> TrainingPlan:
    """Lay out a run directory with plan.json, base model and data, as a supervisor does.

    `target` are texts of a target file; `method_files` go by `method.option`, each with the task that it is read as.
    """
    (run_dir / "data").mkdir(parents=True, exist_ok=True)
    if not (run_dir / "base").exists():
        (run_dir / "base").symlink_to(base, target_is_directory=True)
    options = {"type": task} if isinstance(task, str) else task
    kept = {name: None for row in train for name in row if name.startswith("extra:")}
    fields = (*TASKS[options["type"]].variant(options).fields, *(extra(name.removeprefix("extra:")) for name in kept))
    files = {
        name: None if rows is None else write_records(run_dir, name, rows, fields)
        for name, rows in (("train", train), ("validation", validation), ("test", test))
    }
    assert files["train"] is not None
    read = (method_files or {}) | (
        {"target": ({"type": "fill-mask"}, [{"text": text} for text in target])} if target else {}
    )
    further = {
        key: write_records(run_dir, key, rows, TASKS[read_as["type"]].variant(read_as).fields)
        for key, (read_as, rows) in read.items()
    }
    plan = TrainingPlan(
        job_id="ftjob-test",
        attempt=1,
        task=options,
        adaptation=adaptation or {},
        hyperparameters=Hyperparameters.model_validate({"precision": "fp32"} | hyperparameters),
        preprocessing=Preprocessing.model_validate(preprocessing or {}),
        seed=seed,
        model=model,
        fine_tuned_model="ft:tiny:test",
        base="base",
        train=files["train"],
        validation=files["validation"],
        test=files["test"],
        target=(further.pop("target"),) if target else (),
        method_files=further,
        resume_from=resume_from,
        checkpoint_interval_s=checkpoint_interval_s,
    )
    (run_dir / "plan.json").write_text(plan.model_dump_json(), "utf-8")
    return plan


def write_records(run_dir: Path, name: str, rows: Sequence[Row], fields: tuple[RecordField, ...]) -> DataFile:
    """As preparation does, but without judging the values: what it refuses must not break the engine either."""
    columns: dict[str, list[Any]] = {field.name: [row.get(field.name) for row in rows] for field in fields}
    path = run_dir / "data" / f"{name}.parquet"
    pq.write_table(pa.table(columns | {ROW: list(range(1, len(rows) + 1))}, schema=schema_of(fields)), path)
    return DataFile(
        path=f"data/{name}.parquet",
        file_id=f"file-{name}",
        filename=f"{name}.jsonl",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        rows=len(rows),
    )


def train(plan: TrainingPlan, run_dir: Path, when: Callable[[Event], bool] = lambda event: False) -> Outcome:
    """Run the engine here; it is told to stop at the first event for which `when` is true."""
    # Accelerate keeps its precision for the life of a process; a child has one run, a test process many.
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage]
    GradientState._reset_state()  # pyright: ignore[reportPrivateUsage]
    events: list[Event] = []
    stop = threading.Event()

    def emit(event: Event) -> None:
        events.append(event)
        if when(event):
            stop.set()

    try:
        run(plan, run_dir, emit, stop)
    except StoppedError:
        return Outcome(run_dir, events, stopped=True)
    return Outcome(run_dir, events, stopped=False)


def after_step(step: int) -> Callable[[Event], bool]:
    """True once the step's training metrics are out."""
    return lambda event: isinstance(event, Metrics) and event.split == "train" and event.step >= step
