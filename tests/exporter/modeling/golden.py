"""Reads the golden cases: see ``tests/golden/README.md``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from dynbert_export import modeling

FOLDER = Path(__file__).parents[2] / "golden"


@dataclass(frozen=True)
class Case:
    entry: dict
    inputs: dict
    outputs: dict
    gradients: dict
    orders: dict  # layer -> [batch, kept] original positions, in the reference's order, for each layer that selected
    kept: dict  # layer -> the same as indices into the tokens that entered it

    @property
    def is_tied(self):
        return self.entry["min_gap"] == 0

    def make_model(self):
        config = BertConfig(**self.entry["config"], count_padded_queries=True)
        model = getattr(modeling, self.entry["cls"])(config)
        model.load_state_dict(load_file(FOLDER / "models" / f"{self.entry['model']}.safetensors"))
        for method, argument in self.entry["pre_calls"]:
            getattr(model.base_model, method)(argument)
        return model.train(self.entry["mode"] == "train")

    def make_arguments(self):
        arguments = {**self.inputs, **self.entry["kwargs"]}
        if self.entry["cls"] == "BertForQuestionAnswering":
            arguments.setdefault("always_keep_cls_token", False)  # the reference's default for this head only
        return arguments


def list_entries():
    return json.loads((FOLDER / "cases.json").read_text())["cases"]


def load_case(entry):
    arrays = {name: torch.from_numpy(array) for name, array in np.load(FOLDER / "cases" / f"{entry['id']}.npz").items()}

    def pick(prefix):
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    inputs = {name: tensor for name, tensor in pick("in.").items() if "." not in name}
    cached = {tuple(map(int, name.split("."))): tensor for name, tensor in pick("in.past_key_values.").items()}
    if cached:  # one tuple a layer, from LAYER.TENSOR
        layers, tensors = (max(index) + 1 for index in zip(*cached, strict=True))
        inputs["past_key_values"] = tuple(tuple(cached[i, j] for j in range(tensors)) for i in range(layers))

    kept = {int(layer): indices for layer, indices in pick("keep.").items()}
    orders, order = {}, None
    for layer, indices in sorted(kept.items()):
        order = indices if order is None else order.gather(1, indices)
        orders[layer] = order
    return Case(entry, inputs, pick("out."), pick("grad."), orders, kept)
