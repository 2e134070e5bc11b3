"""The weights of a checkpoint: which files hold them, whether they fit a model, and reading them.

Names and shapes are compared before anything is loaded, against a model on torch's meta device, which has shapes and
no memory. transformers' ``from_pretrained`` would fill what is missing with random numbers and warn; a checkpoint that
does not fit is refused here, with all that is missing or has another shape.

Two habits of old checkpoints are known: the prefix ``bert.`` may stand or not, and LayerNorm's weight and bias may be
called gamma and beta. A parameter that a model has under two names, such as word embeddings that also score the
vocabulary, is stored under one of them or under both, as the version of transformers had it.
"""

from __future__ import annotations

import pickle  # for the name of its error; nothing is unpickled here
import re
from typing import TYPE_CHECKING

from dynbert.manifest import is_file_name
from dynbert_export.checkpoint.file_names import PICKLED_WEIGHTS_FILE, SAFETENSORS_FILE, index_file
from dynbert_export.checkpoint.json_files import read_json_object
from dynbert_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

__all__ = ["HEAD_PREFIXES", "POOLER_PREFIX", "check_weights", "find_weights", "list_weights", "load_weights"]

POOLER_PREFIX = "pooler."
HEAD_PREFIXES = ("qa_outputs.", "classifier.", "cls.", POOLER_PREFIX)
"""Where the names of weights start that not every checkpoint has: those of heads, and the pooler under some of them."""

_SINGLE_FILES = (SAFETENSORS_FILE, PICKLED_WEIGHTS_FILE)
_MAX_NAMED_FAULTS = 5
_BODY = re.compile(r"(embeddings|encoder)\.")
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Not weights: old checkpoints carry them, new models make them."""
_LOAD_ERRORS = (pickle.UnpicklingError, EOFError, LookupError, RuntimeError, ValueError, OSError)
"""What ``torch.load`` raises for broken or foreign files."""


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return the files of the weights: safetensors where there are any, else pickled ones.

    Args:
        folder: The checkpoint.

    Returns:
        One file, or the shards that an index names.

    Raises:
        CheckpointError: If there are none, or an index is broken or names a file that is missing or elsewhere.
    """
    for name in _SINGLE_FILES:
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / index_file(name)
        if index.is_file():
            return _find_shards(index)
    raise CheckpointError(
        f"A checkpoint must have weights, {' or '.join(_SINGLE_FILES)}, got neither in {folder}. "
        "Save the model with save_pretrained."
    )


def list_weights(files: tuple[Path, ...]) -> frozenset[str]:
    """Return the names of stored weights, as new checkpoints without a head have them: none starts with ``bert.``.

    Args:
        files: As from ``find_weights``.

    Returns:
        The names.

    Raises:
        CheckpointError: If a file cannot be read.
    """
    return frozenset(name for file in files for name in _read_headers(file))


def check_weights(files: tuple[Path, ...], model: torch.nn.Module, *, new: tuple[str, ...] = ()) -> None:
    """Hold the names, shapes and number formats of stored weights to those of a model.

    Args:
        files: As from ``find_weights``.
        model: May be on the meta device.
        new: Where the names of weights start that are not to be read, whatever is stored.

    Raises:
        CheckpointError: If a file cannot be read, or with what is missing, of another shape, no float, or of a layer
            that the model has not. Weights of other heads may be there; they are not read.
    """
    found: dict[str, _Header] = {}
    for file in files:
        found.update(_read_headers(file))
    shapes = {_canonical(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {name: shape for name, shape in shapes.items() if not name.startswith(new)}
    parameters = [names for names in _list_parameters(model) if not names[0].startswith(new)]
    missing = [names[0] for names in parameters if not any(name in found for name in names)]
    if missing and all(name.startswith(HEAD_PREFIXES) for name in missing):
        raise CheckpointError(
            f"Weights for this task must include {', '.join(missing)}, got none in {files[0].parent}. "
            "Fine-tune the model for the task, or export it with --task feature-extraction."
        )
    faults = [f"{name} is missing" for name in missing]
    for name, (shape, is_float) in found.items():
        if name in expected and shape != expected[name]:
            faults.append(f"{name} must be {list(expected[name])}, got {list(shape)}")
        elif name in expected and not is_float:
            faults.append(f"{name} must be float32, float16 or bfloat16, got a quantised or other format")
        elif name not in expected and _BODY.match(name) and name not in _BUFFERS:
            faults.append(f"{name} has no place in the model")
    if faults:
        more = f"; and {len(faults) - _MAX_NAMED_FAULTS} more" if len(faults) > _MAX_NAMED_FAULTS else ""
        raise CheckpointError(
            f"Weights must fit config.json, got {len(faults)} faults in {files[0].parent}: "
            f"{'; '.join(faults[:_MAX_NAMED_FAULTS])}{more}. Get config and weights of one model."
        )


def load_weights(files: tuple[Path, ...], model: torch.nn.Module, *, new: tuple[str, ...] = ()) -> None:
    """Fill a model with stored weights, converted to its own number format.

    Args:
        files: As from ``find_weights``; they must fit, see ``check_weights``.
        model: Changed in place.
        new: Where the names of weights start that stay as they are.

    Raises:
        CheckpointError: If a file cannot be read, a weight is not finite, or two that the model takes for one differ.
    """
    names = {_canonical(name): name for name in model.state_dict() if not _canonical(name).startswith(new)}
    state = {}
    for file in files:
        for name, tensor in _read_tensors(file).items():
            target = _canonical(name)
            if target not in names:
                continue
            if not tensor.isfinite().all():
                raise CheckpointError(f"Weights must be finite, got infinity or NaN in {name} of {file}.")
            state[target] = tensor
    for parameter in _list_parameters(model):
        if parameter[0].startswith(new):
            continue
        stored = [name for name in parameter if name in state]
        for name in stored[1:]:
            if not state[name].equal(state[stored[0]]):
                raise CheckpointError(
                    f"Weights must be equal where config.json ties them, got others in {name} than in {stored[0]} of "
                    f"{files[0].parent}. Set tie_word_embeddings to false in config.json if they are meant to differ."
                )
        state |= dict.fromkeys(parameter, state[stored[0]])
    model.load_state_dict({names[name]: tensor for name, tensor in state.items()}, strict=not new)


_Header = tuple[tuple[int, ...], bool]
"""Shape, and whether the numbers are floats of 16 bits or more."""


def _canonical(name: str) -> str:
    """Return the one name of a weight that old and new checkpoints, with a head or without, agree on."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _list_parameters(model: torch.nn.Module) -> list[list[str]]:
    """Return the canonical names of each parameter or buffer that a model saves: several where layers share one."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(_canonical(name))
    return list(names.values())


def _find_shards(index: Path) -> tuple[Path, ...]:
    """Return the files that an index names, each once."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} must hold a weight_map, got none. Get the file again.")
    names = list(dict.fromkeys(weight_map.values()))
    for name in names:
        if not isinstance(name, str) or not is_file_name(name):
            raise CheckpointError(f"{index} must name files of its own folder, got {name!r}.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"A checkpoint must have all files that {index.name} names, got none for {', '.join(missing)} in "
            f"{index.parent}. Get the checkpoint again."
        )
    return tuple(index.parent / name for name in names)


def _read_headers(file: Path) -> Mapping[str, _Header]:
    """Return the header of each weight under its canonical name; no weight is read."""
    if file.suffix == ".bin":
        tensors = _unpickle(file, device="meta")
        return {
            _canonical(name): (tuple(tensor.shape), tensor.is_floating_point() and tensor.element_size() > 1)
            for name, tensor in tensors.items()
        }
    from safetensors import SafetensorError, safe_open

    headers = {}
    try:
        with safe_open(file, framework="numpy") as stored:
            for name in stored.keys():  # noqa: SIM118  (not a dict)
                part = stored.get_slice(name)
                headers[_canonical(name)] = (tuple(part.get_shape()), part.get_dtype() in {"F64", "F32", "F16", "BF16"})
    except (SafetensorError, OSError) as err:
        raise _broken(file, err) from err
    return headers


def _read_tensors(file: Path) -> Mapping[str, torch.Tensor]:
    """Return the weights of a file under their own names."""
    if file.suffix == ".bin":
        return _unpickle(file, device="cpu")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as err:
        raise _broken(file, err) from err


def _unpickle(file: Path, *, device: str) -> dict[str, torch.Tensor]:
    """Return the weights of a pickled file, read by torch's restricted unpickler, which runs no code."""
    import torch

    try:
        stored = torch.load(file, map_location=device, weights_only=True)
    except _LOAD_ERRORS as err:
        if "Unsupported global" in str(err):
            raise CheckpointError(
                f"Weights must be plain tensors, got objects that only code can build in {file}. "
                "Save the model as safetensors."
            ) from err
        raise _broken(file, err) from err
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise CheckpointError(f"{file} must hold a state dict of tensors, got other objects. Save it as safetensors.")
    return stored


def _broken(file: Path, err: Exception) -> CheckpointError:
    # torch's message for a pickle that it refuses advises to switch the protection off: not ours to pass on.
    lines = [] if isinstance(err, pickle.UnpicklingError) else str(err).strip().splitlines()
    reason = lines[0] if lines else type(err).__name__
    return CheckpointError(f"Weights must be readable, got a broken file {file} ({reason}). Get the file again.")
