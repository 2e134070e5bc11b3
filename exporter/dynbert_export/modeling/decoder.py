"""Decoder mode: what a config may ask for, and the keys and values of the tokens that went before.

Layers know one form of cache, the reference's: a tuple of tensors in, a longer one out. transformers' ``Cache``
objects, which ``generate()`` passes around, are read and written here and nowhere else, by their public methods only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from dynbert.errors import InputError, LengthConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import BertConfig

__all__ = [
    "LayerCache",
    "check_decoder_config",
    "count_cached_tokens",
    "read_cache",
    "refuse_decoder_arguments",
    "refuse_dropping",
    "write_cache",
]

LayerCache: TypeAlias = "tuple[Tensor, ...]"
"""Keys and values of one layer, ``[batch, heads, tokens, head size]`` each; with cross-attention those of the encoder's
tokens too, 4 tensors in all."""


def check_decoder_config(config: BertConfig) -> None:
    """Check that cross-attention is asked of decoders only.

    Args:
        config: Of a model or a layer.

    Raises:
        InputError: If it is asked of an encoder.
    """
    if config.add_cross_attention and not config.is_decoder:
        raise InputError("config.is_decoder must be True where config.add_cross_attention is, got False.")


def refuse_dropping(config: BertConfig) -> None:
    """Refuse to drop tokens in a decoder.

    Args:
        config: Of the model or layer that was asked to.

    Raises:
        LengthConfigError: If it is a decoder.
    """
    if config.is_decoder:
        raise LengthConfigError(
            "length_config must be None for a decoder, got one. Which tokens stay depends on the attention that they "
            "receive from later ones, so a decoder that drops tokens is not causal. Set config.is_decoder to False, "
            "or drop nothing."
        )


def refuse_decoder_arguments(config: BertConfig, **arguments: Any) -> None:
    """Refuse what an encoder would ignore.

    Args:
        config: Of the model or layer that was given the arguments.
        **arguments: Their names and values. None asks for nothing.

    Raises:
        InputError: If an encoder is given one, or a decoder without cross-attention is given states to attend to.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        if not config.is_decoder:
            raise InputError(
                f"{name} must be None for an encoder, got {type(value).__name__}. Set config.is_decoder to True."
            )
        if name == "encoder_hidden_states" and not config.add_cross_attention:
            raise InputError(
                "encoder_hidden_states must be None for a decoder without cross-attention, "
                f"got {type(value).__name__}. Set config.add_cross_attention to True."
            )


def _find_dynamic_caches(cache: Cache) -> tuple[DynamicCache, DynamicCache | None]:
    """Return the cache of self-attention and, where there is one, that of cross-attention."""
    own, cross = cache, None
    if isinstance(cache, EncoderDecoderCache):
        own, cross = cache.self_attention_cache, cache.cross_attention_cache
    if not isinstance(own, DynamicCache) or not isinstance(cross, DynamicCache | None):
        raise InputError(
            "past_key_values must be tuples of tensors, a DynamicCache or an EncoderDecoderCache of two of them, "
            f"got {type(own).__name__}."
        )
    return own, cross


def _read_tuples(own: DynamicCache, cross: DynamicCache | None) -> tuple[LayerCache, ...]:
    """Return the caches of self-attention and cross-attention as tuples of tensors, empty where there is nothing."""
    of_text: tuple[LayerCache, ...] = own.to_legacy_cache() if count_cached_tokens(own) else ()
    if cross is None or not count_cached_tokens(cross):
        return of_text
    return tuple((*pair, *more) for pair, more in zip(of_text, cross.to_legacy_cache(), strict=False))


def count_cached_tokens(past_key_values: Any) -> int:
    """Return how many tokens of the text went before.

    Args:
        past_key_values: One ``LayerCache`` a layer, a ``DynamicCache``, an ``EncoderDecoderCache`` or None.

    Returns:
        Their number, 0 for None and for an empty cache.
    """
    if isinstance(past_key_values, Cache):
        return int(past_key_values.get_seq_length())
    return int(past_key_values[0][0].shape[2]) if past_key_values else 0


def read_cache(past_key_values: Any, num_layers: int, *, has_encoder: bool) -> list[LayerCache | None]:
    """Return what each layer has to remember.

    Args:
        past_key_values: See ``count_cached_tokens``.
        num_layers: Layers that are going to run.
        has_encoder: Whether this step attends to an encoder.

    Returns:
        One entry for each of them, None where nothing went before.

    Raises:
        InputError: If there is no entry for each layer, an entry has neither 2 nor 4 tensors, or those of an encoder
            would go unused.
    """
    if isinstance(past_key_values, Cache):
        past_key_values = _read_tuples(*_find_dynamic_caches(past_key_values))
    if not count_cached_tokens(past_key_values):
        return [None] * num_layers
    layers: list[Any] = [tuple(layer) for layer in past_key_values]
    sizes = {len(layer) for layer in layers}
    if len(layers) != num_layers or not sizes <= {2, 4}:
        raise InputError(
            f"past_key_values must hold 2 tensors, or 4 with cross-attention, for each of {num_layers} layers, "
            f"got {len(layers)} layers with {sorted(sizes)} tensors."
        )
    if 4 in sizes and not has_encoder:
        raise InputError("encoder_hidden_states must be given at every step, got None after a step that had them.")
    return layers


def write_cache(past_key_values: Any, presents: Sequence[LayerCache], new_tokens: int) -> Any:
    """Return the cache after a step.

    Args:
        past_key_values: The cache before it. A ``Cache`` is updated in place, as transformers' models do.
        presents: What each layer has to remember now.
        new_tokens: Tokens of the step, the last ones of ``presents``.

    Returns:
        ``past_key_values`` where it is a ``Cache``, within an ``EncoderDecoderCache`` if it cannot hold cross-attention
        itself; else ``presents`` as a tuple.
    """
    if not isinstance(past_key_values, Cache):
        return tuple(presents)
    own, cross = _find_dynamic_caches(past_key_values)
    for index, (key, value, *_) in enumerate(presents):
        own.update(key[:, :, -new_tokens:], value[:, :, -new_tokens:], index)
    if all(len(present) == 2 for present in presents):
        return past_key_values
    if cross is None:
        past_key_values = EncoderDecoderCache(own, cross := DynamicCache())
    for index, (_, _, key, value) in enumerate(presents):
        if not past_key_values.is_updated.get(index):
            cross.update(key, value, index)
            past_key_values.is_updated[index] = True
    return past_key_values
