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

    @property
    def is_tied(self):
        return self.entry["min_gap"] == 0

    @property
    def input_shape(self):
        name = "input_ids" if "input_ids" in self.inputs else "inputs_embeds"
        return self.inputs[name].shape[:2]

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

    orders, order = {}, None
    for layer, kept in sorted((int(layer), kept) for layer, kept in pick("keep.").items()):
        order = kept if order is None else order.gather(1, kept)
        orders[layer] = order
    return Case(entry, pick("in."), pick("out."), pick("grad."), orders)
