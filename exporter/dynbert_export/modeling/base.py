"""BertPreTrainedModel: what every model of the package shares with transformers' loading, saving and training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import BertConfig, PreTrainedModel

from dynbert_export.modeling.decoder import check_decoder_config
from dynbert_export.modeling.tf_checkpoint import load_tf_weights_in_bert

if TYPE_CHECKING:
    from dynbert_export.modeling.dropping import LengthArgument

__all__ = ["BertPreTrainedModel"]


class BertPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Weights, checkpoints and settings of every BERT here.

    Parameters carry the standard Hugging Face names, so that ``from_pretrained`` reads any BERT checkpoint, with a
    head or without.

    Two settings are read from the config beside transformers' own. ``length_config`` (None): the lengths a model starts
    with; text, list or tuple, parsed and never evaluated. ``count_padded_queries`` (False): let padded tokens vote on
    what is kept, and order what is kept by significance, as the reference does. Its numbers are those of this setting.

    Raises:
        InputError: On construction, if the config asks for cross-attention in an encoder.
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    load_tf_weights: Any = staticmethod(load_tf_weights_in_bert)  # says what to do instead of from_tf=True

    if TYPE_CHECKING:  # transformers leaves these untyped or vague; said once here rather than at every model
        config: BertConfig

        def __init_subclass__(cls) -> None: ...
        def post_init(self) -> None: ...  # noqa: D102

    def __init__(self, config: BertConfig, *inputs: Any, **kwargs: Any) -> None:
        check_decoder_config(config)
        super().__init__(config, *inputs, **kwargs)
        if not getattr(config, "keys_to_ignore_at_inference", None):
            # transformers' Trainer reads this from the config; predictions would else be (logits, kept positions).
            config.keys_to_ignore_at_inference = ["past_key_values", "kept_positions"]

    def set_length_config(self, length_config: LengthArgument) -> None:
        """Set the lengths used where ``forward`` is given none; config and checkpoints stay as they are.

        Args:
            length_config: One length a layer, in any form. None or an empty one switches dropping off.
        """
        base_model: Any = self.base_model
        base_model.set_length_config(length_config)

    def set_output_attentions(self, value: bool) -> None:  # noqa: FBT001 -- the reference's public signature
        """Set whether attention probabilities are returned where ``forward`` does not say.

        Args:
            value: Becomes ``config.output_attentions``. Dropping tokens does not need it.
        """
        self.config.output_attentions = value

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module as BERT does; transformers calls this for every module without weights."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            nn.init.zeros_(module.bias)
