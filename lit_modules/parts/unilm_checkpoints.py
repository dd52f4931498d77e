"""Networks of transformers that can be put under UniLM's mask: which there are, and how they are loaded."""

from typing import Any

import torch

from lit_modules.parts.readers import EncoderError

# How the architectures that have a language model's output layers end.
_HEADS = ("ForMaskedLM", "ForPreTraining", "LMHeadModel", "ForCausalLM")


def family(model_type: str | None) -> tuple[Any, Any, Any]:
    """The classes of a family's configuration, of its network and of that with output layers.

    Raises:
        EncoderError: it is none that can be used.
    """
    from transformers import BertConfig, BertForMaskedLM, BertModel, RoFormerConfig, RoFormerForMaskedLM, RoFormerModel

    families: dict[str | None, tuple[Any, Any, Any]] = {
        "bert": (BertConfig, BertModel, BertForMaskedLM),
        "roformer": (RoFormerConfig, RoFormerModel, RoFormerForMaskedLM),
    }
    if model_type not in families:
        raise EncoderError(f"its model_type is {model_type!r}, not bert or roformer")
    return families[model_type]


def load_checkpoint(name: str) -> Any:
    """A network with the output layers that its checkpoint has, in float32. Code of the checkpoint is never run.

    Args:
        name: of a transformers checkpoint, or its folder.

    Raises:
        EncoderError: there is none, it can't be had, or it can't be used.
    """
    try:
        return _load(name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"encoder={name!r} is no BERT or RoFormer that can be loaded: {reason}") from error


def _load(name: str) -> Any:
    """A network with the output layers that its checkpoint has, in float32."""
    from transformers import PreTrainedConfig

    settings, _ = PreTrainedConfig.get_config_dict(name)
    config_class, base, with_head = family(settings.get("model_type"))
    # What a decoder has besides: layers that read another sequence, and a cache in training.
    config = config_class.from_dict(settings | {"is_decoder": False, "add_cross_attention": False})
    if config.type_vocab_size < 2:
        raise EncoderError("it has one segment, and passage and target take one each")
    has_head = any(architecture.endswith(_HEADS) for architecture in settings.get("architectures") or [])
    loading = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    whole, found = (with_head if has_head else base).from_pretrained(name, **loading)
    # Computed, not learned; and a layer that isn't used.
    missing = [key for key in found["missing_keys"] if "embed_positions" not in key and "pooler" not in key]
    if missing:
        raise EncoderError(f"its weights lack {', '.join(sorted(missing)[:3])} ({len(missing)} in all)")
    return whole
