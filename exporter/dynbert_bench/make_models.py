"""Makes the checkpoint that all candidates share, the inputs they run, and PyTorch's answers to them.

Weights are random unless a checkpoint is given: time does not depend on them. Their sizes are chosen so that the scores
of attention have a standard deviation near 1.5: a fresh BERT's attention is all but uniform, in which the ranking of
tokens would be decided by rounding. So the graphs of a length config can be held against PyTorch's answers.

The vocabulary is that of the exporter's own calibration texts; the embedding table has its full size all the same.
"""

from __future__ import annotations

import itertools
import math
import re
import shutil
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_bench.arrays import read_arrays, write_arrays
from dynbert_bench.layout import INPUTS_FILE, OUTPUTS_FILE
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.encoding import encode_packed
from dynbert_export.data.files import load_texts
from dynbert_export.data.samples import choose_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dynbert_export.data.feeds import Feed

__all__ = [
    "copy_checkpoint",
    "load_transformers_model",
    "make_checkpoint",
    "make_inputs",
    "make_reference",
    "task_arrays",
]

_FEEDS = 4
"""Inputs of a cell; bursts run them in turn."""
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ATTENTION_SCORE_VARIANCE = 2.25
_HEADS = {
    Task.QUESTION_ANSWERING: "BertForQuestionAnswering",
    Task.TEXT_CLASSIFICATION: "BertForSequenceClassification",
}


def make_checkpoint(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:  # noqa: ARG001
    """Write a checkpoint with random weights.

    Args:
        folder: Where.
        settings: ``task``, ``layers``, ``hidden``, ``heads``, ``intermediate``, ``vocabulary``, ``positions`` and
            ``seed``.
        sources: None are needed.
    """
    import torch
    import transformers

    config = transformers.BertConfig(  # type: ignore[no-untyped-call]
        vocab_size=settings["vocabulary"],
        hidden_size=settings["hidden"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        intermediate_size=settings["intermediate"],
        max_position_embeddings=settings["positions"],
        num_labels=2,
    )
    model = getattr(transformers, _HEADS[Task(settings["task"])])(config)
    generator = torch.Generator().manual_seed(settings["seed"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.copy_(1.0 + 0.05 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.05 * noise)
            else:
                parameter.copy_(_deviation(name, parameter.shape[1]) * noise)
    model.save_pretrained(folder, safe_serialization=True)
    _write_tokenizer(folder, size=settings["vocabulary"], max_length=settings["positions"])


def copy_checkpoint(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:  # noqa: ARG001
    """Copy a checkpoint that the caller gave, so that what is measured stays what it was.

    Args:
        folder: Where.
        settings: ``folder``: the checkpoint's.
        sources: None are needed.
    """
    shutil.copytree(settings["folder"], folder, dirs_exist_ok=True)


def make_inputs(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Write the inputs of a cell: texts, packed so that none needs padding.

    Args:
        folder: Where.
        settings: ``tokens``, ``batch``, ``calibration`` (a file, or None for the built-in texts).
        sources: ``checkpoint``.
    """
    checkpoint = load_checkpoint(str(sources["checkpoint"]))
    texts = load_texts(_optional_path(settings["calibration"]), checkpoint.task)
    batch = settings["batch"]
    samples = choose_samples(texts.samples, _FEEDS * batch, seed=1)
    windows = encode_packed(samples, load_tokenizer(checkpoint), sequence_length=settings["tokens"])
    write_arrays(folder / INPUTS_FILE, list(_stack(itertools.cycle(list(windows)), batch)))


def make_reference(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Write PyTorch's fp32 outputs: transformers' own model where nothing is dropped, this package's where it is.

    Args:
        folder: Where.
        settings: ``lengths``: a length config as text, or None.
        sources: ``checkpoint`` and ``inputs``.
    """
    import torch

    feeds = read_arrays(sources["inputs"] / INPUTS_FILE)
    arguments: dict[str, Any] = {}
    if settings["lengths"] is None:
        model = load_transformers_model(sources["checkpoint"])
    else:
        model = load_model(load_checkpoint(str(sources["checkpoint"])))
        arguments["length_config"] = LengthConfig.parse(settings["lengths"])
    outputs = []
    with torch.inference_mode():
        for feed in feeds:
            tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
            outputs.append(task_arrays(model(**tensors, **arguments, return_dict=True)))
    write_arrays(folder / OUTPUTS_FILE, outputs)


def load_transformers_model(checkpoint: Path) -> Any:
    """Return a checkpoint in transformers' own class, with the attention that transformers chooses (SDPA).

    Args:
        checkpoint: Its folder.

    Returns:
        The model in evaluation mode.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(checkpoint)
    architecture = (config.architectures or ["BertModel"])[0]
    return getattr(transformers, architecture).from_pretrained(checkpoint).eval()


def task_arrays(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a model's outputs that a graph has too.

    Args:
        result: What a model returned, name -> tensor.

    Returns:
        Name -> array.
    """
    names = ("start_logits", "end_logits", "logits", "last_hidden_state")
    return {name: result[name].numpy() for name in names if name in result}


def _deviation(name: str, fan_in: int) -> float:
    if ".query." in name or ".key." in name:  # score = sum of q * k over a head / sqrt(its width), of unit inputs
        return math.sqrt(math.sqrt(_ATTENTION_SCORE_VARIANCE) / fan_in)
    return 0.5 if "embeddings" in name else 1.0 / math.sqrt(fan_in)


def _stack(windows: Iterator[Feed], batch: int) -> Iterable[Feed]:
    for _ in range(_FEEDS):
        rows = list(itertools.islice(windows, batch))
        yield {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _optional_path(path: str | None) -> Path | None:
    return Path(path) if path is not None else None


def _write_tokenizer(folder: Path, *, size: int, max_length: int) -> None:
    """Write a WordPiece tokenizer that spells every ASCII word and knows those of the built-in texts."""
    import transformers

    characters = string.ascii_lowercase + string.digits
    words: set[str] = set()
    for task in (Task.TEXT_CLASSIFICATION, Task.QUESTION_ANSWERING):
        for sample in load_texts(None, task).samples:
            words.update(re.findall(r"[a-z0-9]+", f"{sample.text} {sample.pair or ''}".lower()))
    pieces = [*_SPECIAL, *characters, *(f"##{character}" for character in characters), *string.punctuation]
    vocabulary = tuple(dict.fromkeys([*pieces, *sorted(words)]))[:size]
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(  # type: ignore[no-untyped-call]
        str(path), do_lower_case=True, model_max_length=max_length
    )
    tokenizer.save_pretrained(folder)
