"""The conditional random field against all paths written out, and the artifact that carries its own code."""

import json
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from torchcrf import CRF
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
)

from app.catalog.tasks import TASKS
from tests.contract.probes import check_crf_tagger
from tests.contract.tiny import Row, make_plan, train
from worker.heads.modeling_crf import FORBIDDEN, WORD, first_pieces, illegal_transitions, owned_words, viterbi
from worker.protocol import Log
from worker.training.sequences import Chain, best_paths, negative_log_likelihood

ROWS: list[Row] = list(TASKS["token-classification"].variants[0].example)
NER = {"type": "token-classification", "head": "crf"}
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def field(tags: int, seed: int) -> CRF:
    torch.manual_seed(seed)
    crf = CRF(tags, batch_first=True)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def score(chain: Chain, emissions: torch.Tensor, path: tuple[int, ...]) -> float:
    total = float(chain.start[path[0]] + chain.end[path[-1]])
    total += sum(float(emissions[word, tag]) for word, tag in enumerate(path))
    return total + sum(float(chain.step[one, other]) for one, other in pairwise(path))


def is_legal(path: tuple[int, ...]) -> bool:
    names = ["O", *(TAGS[tag] for tag in path)]
    return all(
        not name.startswith("I-") or (before != "O" and before[2:] == name[2:]) for before, name in pairwise(names)
    )


@pytest.mark.parametrize("seed", range(5))
def test_likelihood_and_best_path_are_those_of_all_paths_written_out(seed: int) -> None:
    crf = field(len(TAGS), seed)
    chain = Chain.of(crf)
    lengths = [1, 2, 5, 3]
    sentences = [torch.randn(length, len(TAGS)).numpy() for length in lengths]
    truth = [torch.randint(len(TAGS), (length,)).tolist() for length in lengths]
    expected = 0.0
    paths: list[list[int]] = []
    for emissions, tags in zip(map(torch.from_numpy, sentences), truth, strict=True):
        scored = {path: score(chain, emissions, path) for path in product(range(len(TAGS)), repeat=len(emissions))}
        everything = torch.logsumexp(torch.tensor(list(scored.values()), dtype=torch.float64), dim=0)
        expected -= scored[tuple(tags)] - float(everything)
        legal = {path: value for path, value in scored.items() if is_legal(path)}
        paths.append(list(max(legal, key=lambda path: legal[path])))
    assert negative_log_likelihood(sentences, truth, chain) == pytest.approx(expected, rel=1e-5)
    assert best_paths(sentences, chain, TAGS) == paths


def test_our_viterbi_without_forbidden_transitions_is_that_of_pytorch_crf() -> None:
    crf = field(4, seed=3)
    emissions, mask = torch.randn(6, 9, 4), torch.ones(6, 9, dtype=torch.bool)
    for row, length in enumerate([9, 1, 4, 9, 2, 7]):
        mask[row, length:] = False
    found = viterbi(emissions, mask, crf.start_transitions, crf.transitions, crf.end_transitions)
    assert [row[:length].tolist() for row, length in zip(found, mask.sum(dim=1), strict=True)] == crf.decode(
        emissions, mask
    )


def test_no_illegal_sequence_is_ever_decoded_however_strongly_the_words_ask_for_it() -> None:
    chain = Chain.of(field(len(TAGS), seed=1))
    asked = torch.full((300, len(TAGS)), -50.0)
    asked[:, 2] = 50.0  # I-LOC everywhere, also at the beginning
    (path,) = best_paths([asked.numpy()], chain, TAGS)
    assert is_legal(tuple(path))
    assert path[0] in (1, 0)


def test_illegal_transitions_are_those_of_iob2() -> None:
    start, step = illegal_transitions(tuple(TAGS))
    assert [TAGS[index] for index in start.nonzero()[:, 0]] == ["I-LOC", "I-PER"]
    forbidden = {(TAGS[one], TAGS[other]) for one, other in step.nonzero().tolist()}
    assert forbidden == {
        ("O", "I-LOC"),
        ("O", "I-PER"),
        ("B-PER", "I-LOC"),
        ("I-PER", "I-LOC"),
        ("B-LOC", "I-PER"),
        ("I-LOC", "I-PER"),
    }
    assert FORBIDDEN < -1000


def test_a_word_answers_where_most_of_its_context_is_seen_and_by_its_first_piece() -> None:
    # Two windows of six pieces; word 2 begins in the first and goes on into the second.
    pieces = [[None, 0, 1, 1, 2, None], [None, 2, 2, 3, 4, None]]
    found = first_pieces(pieces)
    assert found == [[(0, 1), (1, 2), (2, 4)], [(3, 3), (4, 4)]]
    assert owned_words(found, [6, 6]) == found
    # Word 1 is whole in both: the second window shows more to its left and right.
    assert owned_words([[(0, 1), (1, 3)], [(1, 2), (2, 3)]], [5, 8]) == [[(0, 1)], [(1, 2), (2, 3)]]


def test_the_field_computes_in_fp32_under_autocast(tiny_encoder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"n_epochs": 2, "batch_size": 4, "precision": "bf16"}
    plan = make_plan(tmp_path, tiny_encoder, ROWS, ROWS, ROWS, task=NER, **settings)
    outcome = train(plan, tmp_path)
    weights = load_file(tmp_path / "artifact" / "model.safetensors")
    assert weights["crf.transitions"].dtype == torch.float32
    assert outcome.losses[-1] < outcome.losses[0]


ALONE = """
import sys
for name in ("app", "worker", "torchcrf", "seqeval"):
    sys.modules[name] = None
import json
from transformers import AutoModelForTokenClassification, AutoTokenizer
model = AutoModelForTokenClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
print(json.dumps(model.tag(json.loads(sys.argv[2]), AutoTokenizer.from_pretrained(sys.argv[1]))))
"""


def test_the_artifact_tags_as_the_service_does_in_a_process_that_has_nothing_of_ours(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    # A process of its own costs some seconds; only so is nothing of ours there by accident.
    long: Row = {"tokens": [*ROWS[0]["tokens"], "\x07", *ROWS[4]["tokens"]] * 8, "tags": []}
    long["tags"] = [*ROWS[0]["tags"], "O", *ROWS[4]["tags"]] * 8
    rows = [*ROWS, long]
    settings: dict[str, Any] = {"n_epochs": 20, "batch_size": 3, "learning_rate": 2e-3, "max_length": 24}
    outcome = train(make_plan(tmp_path, tiny_encoder, rows, test=rows, task=NER, **settings), tmp_path)
    artifact = tmp_path / "artifact"
    found = subprocess.run(
        [sys.executable, "-c", ALONE, str(artifact), json.dumps([row["tokens"] for row in rows])],
        cwd=tmp_path,
        env={"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    predicted = json.loads(found.stdout.splitlines()[-1])
    words = [
        (gold, guess)
        for row, tags in zip(rows, predicted, strict=True)
        for gold, guess in zip(row["tags"], tags, strict=True)
    ]
    scores = outcome.result.metrics["test"]
    assert sum(gold == guess for gold, guess in words) / len(words) == pytest.approx(scores["accuracy"])
    assert any("overlapping windows" in log.message for log in outcome.of(Log))
    manifest = json.loads((artifact / "manifest.json").read_text("utf-8"))
    assert "modeling_crf.py" in manifest["files"]


def write_byte_level_roberta(directory: Path) -> Path:
    """A random RoBERTa with a vocabulary of bytes, which tells words from word ends by the space before them."""
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    for character in sorted(ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    vocabulary["Ġthe"] = len(vocabulary)
    merges = [("h", "e"), ("t", "he"), ("Ġ", "the")]
    vocabulary |= {"he": len(vocabulary), "the": len(vocabulary) + 1}
    backend = Tokenizer(BPE(vocabulary, merges))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    RobertaTokenizerFast(tokenizer_object=backend, model_max_length=64).save_pretrained(directory)
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
    )
    RobertaModel(config).save_pretrained(directory)
    return directory


def test_a_byte_level_vocabulary_sees_words_with_the_space_before_them(tmp_path: Path) -> None:
    base = write_byte_level_roberta(tmp_path / "roberta")
    settings: dict[str, Any] = {"n_epochs": 5, "batch_size": 4, "learning_rate": 3e-3}
    outcome = train(make_plan(tmp_path / "run", base, ROWS, test=ROWS, task=NER, **settings), tmp_path / "run")
    artifact = tmp_path / "run" / "artifact"
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    assert tokenizer(["the", "the"], is_split_into_words=True).tokens() == ["<s>", "Ġthe", "Ġthe", "</s>"]
    check_crf_tagger(artifact, ROWS, outcome.result.metrics["test"])


def test_the_pipeline_splits_scripts_without_spaces_into_characters() -> None:
    assert WORD.findall("我住在 Paris 2024, ok") == ["我", "住", "在", "Paris", "2024", ",", "ok"]


def test_plain_loading_without_trust_is_a_linear_head_that_runs_no_code(tiny_encoder: Path, tmp_path: Path) -> None:
    train(make_plan(tmp_path, tiny_encoder, ROWS, task=NER, n_epochs=1, batch_size=4), tmp_path)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "artifact", trust_remote_code=False)
    assert type(model).__name__ == "BertForTokenClassification"


def next_job(
    base: Path, tmp_path: Path, task: Any, rows: list[Row]
) -> tuple[dict[str, torch.Tensor], list[Log], dict[str, Any]]:
    run_dir = tmp_path / "next"
    settings: dict[str, Any] = {"n_epochs": 1, "batch_size": 8, "learning_rate": 1e-9, "weight_decay": 0.0}
    outcome = train(make_plan(run_dir, base, rows, task=task, **settings), run_dir)
    logs = [log for log in outcome.of(Log) if log.data.get("code") == "head_replaced"]
    config = json.loads((run_dir / "artifact" / "config.json").read_text("utf-8"))
    return load_file(run_dir / "artifact" / "model.safetensors"), logs, config


@pytest.fixture
def tagger(tiny_encoder: Path, tmp_path: Path) -> Path:
    """The artifact of a finished job, as the base of another."""
    plan = make_plan(tmp_path / "first", tiny_encoder, ROWS, task=NER, n_epochs=2, batch_size=4, learning_rate=1e-2)
    train(plan, tmp_path / "first")
    return tmp_path / "first" / "artifact"


def test_a_model_with_a_field_is_the_base_of_the_next_job_and_keeps_its_head_for_the_same_tags(
    tagger: Path, tmp_path: Path
) -> None:
    (tagger / "modeling_crf.py").write_text("raise RuntimeError('code of a base model was run')")
    before = load_file(tagger / "model.safetensors")
    after, logs, config = next_job(tagger, tmp_path, NER, ROWS)
    assert logs == []
    for name in ("crf.transitions", "classifier.weight", "bert.embeddings.word_embeddings.weight"):
        assert torch.allclose(before[name], after[name], atol=1e-6)
    assert config["auto_map"] == {"AutoModelForTokenClassification": "modeling_crf.CrfForTokenClassification"}


def test_other_tags_replace_the_head_and_an_event_says_so(tagger: Path, tmp_path: Path) -> None:
    names = {"PER": "HUM", "LOC": "PLACE"}
    renamed = [row | {"tags": [f"{tag[:2]}{names.get(tag[2:], '')}" for tag in row["tags"]]} for row in ROWS]
    before = load_file(tagger / "model.safetensors")
    after, logs, _ = next_job(tagger, tmp_path, NER, renamed)
    assert [log.data["architecture"] for log in logs] == ["CrfBertForTokenClassification"]
    assert "'B-PER'" in logs[0].message
    assert not torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-6)
    assert torch.allclose(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"], atol=1e-6
    )


def test_another_task_gets_the_body_and_nothing_of_the_field(tagger: Path, tmp_path: Path) -> None:
    texts = list(TASKS["text-classification"].variants[0].example)
    before = load_file(tagger / "model.safetensors")
    after, logs, config = next_job(tagger, tmp_path, "text-classification", texts)
    assert len(logs) == 1
    assert not [name for name in after if name.startswith("crf.")]
    assert not {"auto_map", "custom_pipelines", "crf_window"} & config.keys()
    assert not list((tmp_path / "next" / "artifact").glob("*.py"))
    assert torch.allclose(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"], atol=1e-6
    )
