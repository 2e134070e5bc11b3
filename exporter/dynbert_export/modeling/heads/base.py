# ruff: noqa: FBT001, PLR0913, PLR0917 -- the arguments of every head's forward, passed on by position
"""BertHead: what all heads share. A head is its layers, its loss and its output type; all else stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.model import BertModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transformers import BertConfig

    from dynbert_export.modeling.dropping import LengthArgument
    from dynbert_export.modeling.outputs import DynamicModelOutput, DynamicOutput

__all__ = ["NO_POOLER", "BertHead", "make_classifier_dropout"]

NO_POOLER: Any = [r"^(bert\.)?pooler\."]
"""``_keys_to_ignore_on_load_unexpected`` of a head without pooler: a checkpoint's goes unused without a warning."""


def make_classifier_dropout(config: BertConfig) -> nn.Dropout:
    """Return the dropout before a classifier.

    Args:
        config: Its ``classifier_dropout``, or where that is None ``hidden_dropout_prob``, is the probability.

    Returns:
        The module.
    """
    dropout = config.classifier_dropout
    return nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)


class BertHead(BertPreTrainedModel):
    """A model with ``self.bert`` and something on top of it."""

    def __init__(self, config: BertConfig, *, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=add_pooling_layer)

    def _encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        head_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        layer_config: Iterable[int] | None,
        length_config: LengthArgument,
        always_keep_cls_token: bool | None,
        *,
        use_cache: bool | None = False,
        **of_decoder: Any,
    ) -> DynamicModelOutput:
        """Run ``self.bert`` with the arguments that every head takes, and those that only a decoder takes."""
        encoded: DynamicModelOutput = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            head_mask,
            inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            layer_config=layer_config,
            length_config=length_config,
            always_keep_cls_token=always_keep_cls_token,
            **of_decoder,
        )
        return encoded

    def _finish(
        self,
        output_type: Callable[..., DynamicOutput],
        encoded: DynamicModelOutput,
        return_dict: bool | None,
        **fields: Any,
    ) -> Any:
        """Return the head's own fields and those of the encoder as an output or, where asked, as a tuple.

        Of the encoder's fields those that the output type has: its states are the head's to use.
        """
        known: Any = getattr(output_type, "__dataclass_fields__", {})
        output = output_type(**fields, **{name: value for name, value in encoded.items() if name in known})
        return output if (self.config.use_return_dict if return_dict is None else return_dict) else output.to_tuple()
