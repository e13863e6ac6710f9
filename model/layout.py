"""What a checkpoint of these families must hold: every tensor's name and shape, Block by Block. Reads no bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.config import ModelConfig
from swarm.errors import CorruptCheckpoint

if TYPE_CHECKING:
    from model.source import Source

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"

Shape = tuple[int, ...]


def block_prefix(block: int) -> str:
    return f"model.layers.{block}."


def block_tensors(config: ModelConfig, block: int) -> dict[str, Shape]:
    """The tensors of one Block, names in full."""
    hidden, inner, head = config.hidden_size, config.intermediate_size, config.head_dim
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (config.q_size, hidden),
        "self_attn.k_proj.weight": (config.kv_size, hidden),
        "self_attn.v_proj.weight": (config.kv_size, hidden),
        "self_attn.o_proj.weight": (hidden, config.q_size),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    if config.qkv_bias:
        shapes |= {
            "self_attn.q_proj.bias": (config.q_size,),
            "self_attn.k_proj.bias": (config.kv_size,),
            "self_attn.v_proj.bias": (config.kv_size,),
        }
    if config.o_bias:
        shapes |= {"self_attn.o_proj.bias": (hidden,)}
    if config.mlp_bias:
        shapes |= {"mlp.gate_proj.bias": (inner,), "mlp.up_proj.bias": (inner,), "mlp.down_proj.bias": (hidden,)}
    if config.qk_norm:
        shapes |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    return {block_prefix(block) + name: shape for name, shape in shapes.items()}


def head_tensor(config: ModelConfig) -> str:
    """The Head's matrix; where embeddings are tied it is the embedding's."""
    return EMBEDDING if config.tied else HEAD


def model_tensors(config: ModelConfig) -> dict[str, Shape]:
    """All tensors that the model is made of."""
    shapes: dict[str, Shape] = {EMBEDDING: (config.vocab_size, config.hidden_size), FINAL_NORM: (config.hidden_size,)}
    shapes[head_tensor(config)] = (config.vocab_size, config.hidden_size)
    for block in range(config.num_blocks):
        shapes |= block_tensors(config, block)
    return shapes


def check_tensors(source: Source, config: ModelConfig) -> None:
    """Raises CorruptCheckpoint for the first tensor that is missing or has another shape than config.json implies."""
    for name, shape in model_tensors(config).items():
        entry = source.tensors.get(name)
        if entry is None:
            raise CorruptCheckpoint(
                f"checkpoint {source.name} has no tensor {name!r}; config.json calls for one of shape {list(shape)}"
            )
        if entry.shape != shape:
            raise CorruptCheckpoint(
                f"{entry.file}: tensor {name!r} has shape {list(entry.shape)}, config.json calls for {list(shape)}"
            )
