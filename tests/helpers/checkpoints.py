"""Tiny random BERT checkpoints, as a hub would deliver them: config, weights, tokenizer, sentence-transformers files.

The weights come from transformers' own classes, so that what the exporter reads is what the world writes. They are
larger than a fresh BERT's (whose attention is almost uniform, and whose biases are zero): the significances of two
tokens then differ by far more than rounding, and a bias that gets lost changes the output.
"""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "LABELS",
    "TEXTS",
    "VOCABULARY",
    "edit_json",
    "make_checkpoint",
    "rewrite_weights",
    "run_checkpoint",
    "run_model",
    "write_sentence_transformers_files",
    "write_tokenizer",
]

LABELS = ("negative", "neutral", "positive")
"""Classes of the text- and token-classification checkpoints; other counts get LABEL_0, LABEL_1, ..."""

TEXTS = ("the city was great", "a good story about the old bridge and the river at night", "water")
"""What ``run_model`` runs on."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHARACTERS = (*string.ascii_lowercase, *string.digits)
_WORDS = (
    "the a of and to in is was it that for on with as at by he she they we you not be are this have from or had but "
    "what who when where how why all were one there their can will out up so if about which time day year people new "
    "old good great bad small city house water train film book story movie service food river bridge night"
)
_PIECES = (
    *_SPECIAL,
    *_CHARACTERS,
    *(f"##{character}" for character in _CHARACTERS),
    *".,!?;:'\"-()%$/&",
    *(word for word in _WORDS.split() if word not in _CHARACTERS),
    "##s",
    "##ed",
    "##ing",
    "##er",
    "##ly",
)
VOCABULARY = tuple(dict.fromkeys(_PIECES))
"""About 170 WordPieces. Every ASCII word can be spelt with them, so ordinary sentences give few [UNK]."""

_CLASSES = {
    Task.FEATURE_EXTRACTION: "BertModel",
    Task.QUESTION_ANSWERING: "BertForQuestionAnswering",
    Task.TEXT_CLASSIFICATION: "BertForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "BertForTokenClassification",
    Task.FILL_MASK: "BertForMaskedLM",
    Task.NEXT_SENTENCE_PREDICTION: "BertForNextSentencePrediction",
    Task.MULTIPLE_CHOICE: "BertForMultipleChoice",
    Task.PRETRAINING: "BertForPreTraining",
}
_TINY = {
    "vocab_size": 200,  # more than VOCABULARY has: an embedding table that was padded, as real ones are
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def make_checkpoint(
    folder: Path,
    task: Task | str = Task.FEATURE_EXTRACTION,
    *,
    seed: int = 0,
    labels: Sequence[str] = LABELS,
    sentence_transformers: bool = False,
    **config: Any,
) -> Path:
    """Write a checkpoint with random weights.

    Args:
        folder: Where to write; made if absent.
        task: Decides the class of the model, hence the head.
        seed: Of the weights. Equal seeds and configs give equal files.
        labels: Names of the classes; read for text and token classification only.
        sentence_transformers: Whether to add the files of a sentence-transformers model (mean pooling, normalised).
        **config: Entries of ``BertConfig`` to set in place of the tiny defaults.

    Returns:
        ``folder``.
    """
    import torch
    import transformers

    task = Task(task)
    settings: dict[str, Any] = {**_TINY, **config}
    if task in {Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}:
        settings.setdefault("id2label", dict(enumerate(labels)))
        settings.setdefault("label2id", {label: index for index, label in enumerate(labels)})
    model = getattr(transformers, _CLASSES[task])(transformers.BertConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = name.endswith("LayerNorm.weight")
            parameter.copy_(1.0 + 0.1 * noise if is_scale else 0.2 * noise if parameter.ndim > 1 else 0.1 * noise)
    model.save_pretrained(folder, safe_serialization=True)
    write_tokenizer(folder, max_length=settings["max_position_embeddings"])
    if sentence_transformers:
        write_sentence_transformers_files(folder)
    return folder


def write_tokenizer(folder: Path, *, max_length: int = _TINY["max_position_embeddings"]) -> None:
    """Write ``vocab.txt``, ``tokenizer.json`` and their companions for ``VOCABULARY``.

    Args:
        folder: Where to write; must exist.
        max_length: Longest input in tokens, as the tokenizer's files say.
    """
    import transformers

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(vocabulary), do_lower_case=True, model_max_length=max_length)
    tokenizer.save_pretrained(folder)


def write_sentence_transformers_files(
    folder: Path, *, mode: str = "mean_tokens", normalize: bool = True, max_length: int | None = None
) -> None:
    """Write the files by which sentence-transformers knows a model.

    Args:
        folder: The checkpoint.
        mode: Pooling, as in the key ``pooling_mode_MODE`` of its file: ``mean_tokens``, ``cls_token``, ``max_tokens``.
        normalize: Whether embeddings are scaled to unit length.
        max_length: Longest input in tokens; None leaves it to the tokenizer.
    """
    dimension = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    names = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if name == "Transformer" else f"{index}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for index, name in enumerate(names)
    ]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    pooling = {"word_embedding_dimension": dimension, **{f"pooling_mode_{each}": each == mode for each in modes}}
    transformer = {"max_seq_length": max_length, "do_lower_case": False}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for path, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", transformer),
    ):
        (folder / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file that holds an object, to make a checkpoint wrong in one way.

    Args:
        path: The file.
        **changes: The keys' new values; None removes a key.
    """
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), encoding="utf-8")


def rewrite_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the weights of a checkpoint by what ``change`` makes of them.

    Args:
        folder: The checkpoint.
        change: Name -> tensor, as stored, to the same.
    """
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


def run_checkpoint(folder: Path) -> NDArray[Any]:
    """Load a checkpoint as the exporter does, and run it.

    Args:
        folder: The checkpoint.

    Returns:
        As from ``run_model``.
    """
    from dynbert_export.checkpoint.load import load_checkpoint, load_model
    from dynbert_export.checkpoint.tokenizer import load_tokenizer

    checkpoint = load_checkpoint(str(folder))
    return run_model(load_model(checkpoint), load_tokenizer(checkpoint), checkpoint.task)


def run_model(model: Any, tokenizer: Any, task: Task = Task.FEATURE_EXTRACTION) -> NDArray[Any]:
    """Run a model of PyTorch on ``TEXTS``.

    Args:
        model: Ours or transformers'.
        tokenizer: Its tokenizer.
        task: What it computes; the rows of multiple choice have another shape.

    Returns:
        The first output, ``[texts, values]``; both outputs of pretraining side by side.
    """
    import numpy as np
    import torch

    from dynbert.inputs import INPUT_NAMES, arrange_rows

    rows = tokenizer(list(TEXTS), padding=True, return_tensors="np")
    feed = arrange_rows({name: rows[name] for name in INPUT_NAMES}, task)
    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).to_tuple()
    heads = outputs[: 2 if task is Task.PRETRAINING else 1]
    return np.concatenate([output.numpy().reshape(len(TEXTS), -1) for output in heads], axis=1)
