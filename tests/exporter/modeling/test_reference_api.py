"""Names and signatures of the reference's module, and a script written for it: only the import changes.

``tests/golden/reference-api.json`` was taken from the documentation of the reference: classes, methods and functions
with their arguments and defaults.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from dynbert_export import modeling
from tests.exporter.modeling.golden import FOLDER

REFERENCE = json.loads((FOLDER / "reference-api.json").read_text())
HEADS = [name for name in REFERENCE if name.startswith(("BertFor", "BertLMHeadModel")) and not name.endswith("Output")]

# Ours on purpose: CLS is kept by default in every head.
CHANGED = {("BertForQuestionAnswering", "forward"): {"always_keep_cls_token=False": "always_keep_cls_token=True"}}

SIGNATURES = [
    (name, method, arguments)
    for name, methods in REFERENCE.items()
    for method, arguments in (methods.items() if isinstance(methods, dict) else [("", methods)])
]

SCRIPT = """
import sys
import torch
from transformers import BertConfig
from dynbert_export.modeling import BertForQuestionAnswering, BertForSequenceClassification, BertModel

torch.manual_seed(0)
config = BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
                    max_position_embeddings=32, output_attentions=True, length_config="(8, 4)")
model = BertForQuestionAnswering(config)
model.bert.set_length_config([9, 5])
model.bert.set_output_attentions(True)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
input_ids = torch.randint(1, 99, (2, 12))
attention_mask = torch.ones_like(input_ids)
positions = torch.tensor([1, 3])
for _ in range(2):
    outputs = model(input_ids, attention_mask=attention_mask, start_positions=positions, end_positions=positions + 2)
    loss = outputs[0]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

model.eval()
model.save_pretrained(sys.argv[1])
again = BertForQuestionAnswering.from_pretrained(sys.argv[1])
again.bert.set_length_config([9, 5])
with torch.no_grad():
    start, end = again(input_ids, attention_mask, return_dict=False)[:2]
    torch.testing.assert_close(start, model(input_ids, attention_mask).start_logits)
    whole = again(input_ids, attention_mask, length_config=(12, 12), always_keep_cls_token=True, layer_config=[0, 1])
assert start.shape == end.shape == whole.start_logits.shape == (2, 12)

bert = BertModel.from_pretrained(sys.argv[1], add_pooling_layer=False)
layer = bert.encoder.layer[0]
states = bert.embeddings(input_ids=input_ids)
(layer_output, probabilities), keep_indices = layer(states, output_attentions=True, output_length=7)
assert layer_output.shape == (2, 7, 32) and keep_indices.shape == (2, 7)

classifier = BertForSequenceClassification.from_pretrained(sys.argv[1], num_labels=3)
loss, logits = classifier(input_ids, attention_mask, labels=torch.tensor([0, 2]), return_dict=False)[:2]
loss.backward()
print("done", logits.shape)
"""


def write_arguments(function):
    """Return the arguments of a function as in the reference's list; the kinds of our annotations do not matter."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    plain = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL]
    written = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in plain]
    return written, [f"**{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]


def test_reference_has_25_classes_and_2_functions():
    assert sum(isinstance(methods, dict) for methods in REFERENCE.values()) == 25
    assert len(REFERENCE) == 27
    assert set(modeling.__all__) >= set(REFERENCE)


@pytest.mark.parametrize(("name", "method", "arguments"), SIGNATURES, ids=lambda value: str(value)[:40])
def test_arguments_have_the_names_order_and_defaults_of_the_reference(name, method, arguments):
    item = getattr(modeling, name)
    plain, keywords = write_arguments(getattr(item, method) if method else item)
    expected = [argument for argument in arguments if not argument.startswith("**")]
    changed = CHANGED.get((name, method), {})
    assert plain[: len(expected)] == [changed.get(argument, argument) for argument in expected]
    assert all("=" in argument for argument in plain[len(expected) :])  # ours stand behind and need not be given
    assert keywords == [argument for argument in arguments if argument.startswith("**")]


@pytest.mark.parametrize("name", HEADS)
def test_every_head_takes_the_arguments_of_dropping(name):
    plain, _ = write_arguments(getattr(modeling, name).forward)
    after = plain.index("return_dict=None")
    assert plain[after + 1 : after + 4] == ["layer_config=None", "length_config=None", "always_keep_cls_token=True"]
    for method in ("set_length_config", "set_output_attentions", "get_input_embeddings", "set_input_embeddings"):
        assert callable(getattr(getattr(modeling, name), method))


@pytest.mark.slow
def test_script_for_the_reference_runs_with_only_the_import_changed(tmp_path):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done torch.Size([2, 3])\n"
