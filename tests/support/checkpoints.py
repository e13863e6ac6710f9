"""Tiny checkpoints in Hugging Face layout, made by transformers itself: random weights of a seed, every family and
option.

``VARIANTS`` names the combinations worth testing; ``make_variant`` writes one, ``make_checkpoint`` writes any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_ROPE_BASE: dict[str, Any] = {"rope_theta": 10000.0}
_WINDOWS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", {"head_dim": 24}),
    "llama-multi-head": ("llama", {"num_key_value_heads": 4}),
    "llama-multi-query": ("llama", {"num_key_value_heads": 1}),
    "llama-odd-sizes": ("llama", {"hidden_size": 68, "intermediate_size": 150, "head_dim": 18, "vocab_size": 131}),
    "llama-linear": ("llama", {"rope_parameters": {**_ROPE_BASE, "rope_type": "linear", "factor": 4.0}}),
    "llama-dynamic": (
        "llama",
        {"max_position_embeddings": 64, "rope_parameters": {**_ROPE_BASE, "rope_type": "dynamic", "factor": 2.0}},
    ),
    "llama-llama3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama-yarn": (
        "llama",
        {"rope_parameters": {**_ROPE_BASE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 24}),
    "mistral-layer-types": ("ministral", {"sliding_window": 24, "layer_types": _WINDOWS}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}),
    "qwen2-yarn": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "mscale": 1.0,
                "mscale_all_dim": 0.5,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
            }
        },
    ),
    "qwen3": ("qwen3", {}),
    "qwen3-tied": ("qwen3", {"tie_word_embeddings": True, "head_dim": 32}),
    "qwen3-biases": ("qwen3", {"attention_bias": True}),
    "qwen3-window": ("qwen3", {"use_sliding_window": True, "sliding_window": 24, "layer_types": _WINDOWS}),
}


def make_variant(directory: str | Path, name: str, **options: Any) -> Path:
    """The checkpoint called ``name`` in VARIANTS, written to ``directory``; options as for ``make_checkpoint``."""
    family, overrides = VARIANTS[name]
    return make_checkpoint(directory, family, **{**overrides, **options})


def make_checkpoint(
    directory: str | Path,
    family: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str | int | None = None,
    **overrides: Any,
) -> Path:
    """Writes a random model of ``family``: config.json, generation_config.json and safetensors, in shards if a shard's
    size is given.

    Every parameter is random, norms and biases too, and large enough for attention and logits to be far from uniform.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 112,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 128,
        "max_position_embeddings": 256,
        "head_dim": 16,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "attn_implementation": "eager",
        **overrides,
    }
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).to(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise * (1.0 if "embed" in name else 1.5 / parameter.shape[1] ** 0.5))
            elif "norm" in name:
                parameter.copy_(1.0 + 0.2 * noise)
            else:
                parameter.copy_(0.1 * noise)
    sharding = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
    model.to(dtype).save_pretrained(str(directory), **sharding)
    return Path(directory)
