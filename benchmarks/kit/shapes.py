"""Shapes of llama models, as numbers. Knows no weights and no files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kernels.types import GROUP, BlockShape
from model.config import ModelConfig, RopeConfig

EPS, THETA, MAX_POSITIONS = 1e-5, 10000.0, 4096


@dataclass(frozen=True)
class LlamaShape:
    name: str
    hidden: int
    inner: int
    blocks: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """A Block's matrices as (outputs, inputs)."""
        kv = self.kv_heads * self.head_dim
        return {
            "qkv": (self.hidden + 2 * kv, self.hidden),
            "o": (self.hidden, self.hidden),
            "gate_up": (2 * self.inner, self.hidden),
            "down": (self.hidden, self.inner),
        }

    @property
    def block_weights(self) -> int:
        """Numbers in a Block's matrices."""
        return sum(outputs * inputs for outputs, inputs in self.matrices.values())

    @property
    def kv_bytes_per_token(self) -> int:
        """Of one Block: FP16 keys and values."""
        return 2 * self.kv_heads * self.head_dim * 2

    @property
    def weights(self) -> int:
        """Numbers in all matrices, embedding and Head too."""
        return self.blocks * self.block_weights + 2 * self.vocab * self.hidden

    def step_bytes(self, context: int) -> float:
        """What one decode step has to read: Blocks and Head in INT8 with an FP16 scale a group, keys and values."""
        matrices = self.blocks * self.block_weights + self.vocab * self.hidden
        return matrices * (1 + 2 / GROUP) + self.blocks * context * self.kv_bytes_per_token

    @cached_property  # always the same object: implementations keep what they derive from it
    def block_shape(self) -> BlockShape:
        return BlockShape(self.heads, self.kv_heads, self.head_dim, EPS)

    def hf_config(self) -> dict[str, Any]:
        """What config.json says."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "max_position_embeddings": MAX_POSITIONS,
            "mlp_bias": False,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.blocks,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": EPS,
            "rope_theta": THETA,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vocab_size": self.vocab,
        }

    def model_config(self) -> ModelConfig:
        """The same without a file."""
        return ModelConfig(
            family="llama",
            name=self.name,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_blocks=self.blocks,
            num_heads=self.heads,
            num_kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            vocab_size=self.vocab,
            max_positions=MAX_POSITIONS,
            rms_eps=EPS,
            rope=RopeConfig(theta=THETA),
            tied=False,
            qkv_bias=False,
            o_bias=False,
            mlp_bias=False,
            qk_norm=False,
            windows=(None,) * self.blocks,
        )


LLAMA_1B = LlamaShape("llama-1.1b-random", hidden=2048, inner=5632, blocks=22, heads=32, kv_heads=4, vocab=32000)
"""TinyLlama-1.1B's shape."""

BORDER = LlamaShape("llama-border-random", hidden=64, inner=64, blocks=22, heads=1, kv_heads=1, vocab=512)
"""As many Blocks and next to no arithmetic: what a step of this takes is Python and the border to native code."""

SMALL = LlamaShape("llama-small-random", hidden=128, inner=192, blocks=2, heads=4, kv_heads=2, vocab=384)
"""For tests."""
