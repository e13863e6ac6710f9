"""A random checkpoint of a shape in Hugging Face layout: bf16 safetensors, config.json, tokenizer.json.

Nothing that large is committed or downloaded; it is made once from a seed and kept in the user's cache directory.
Standard deviations are those of a trained model's beginning: matrices keep the variance of what they read, and what is
added to the residual stream is small enough that it stays within a few units over all Blocks.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.kit.shapes import LlamaShape
from model.layout import EMBEDDING, FINAL_NORM, HEAD, block_prefix

FORMAT = 1
SPECIAL = ("<unk>", "<s>", "</s>")


def cache_directory() -> Path:
    """``~/.cache/shoal/benchmarks``, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "benchmarks"


def random_checkpoint(
    shape: LlamaShape, directory: Path | None = None, seed: int = 0, advance: Callable[[], object] | None = None
) -> Path:
    """The checkpoint's own directory below ``directory`` (default: the cache directory); made if it is not there.

    ``advance`` hears of every Block that is made. It appears whole or not at all, however the making ends.
    """
    home = directory or cache_directory()
    final = home / f"{shape.name}-s{seed}-v{FORMAT}"
    if (final / "config.json").exists():
        return final
    home.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=home))
    try:
        save_file(_tensors(shape, seed, advance), making / "model.safetensors", metadata={"format": "pt"})
        (making / "tokenizer.json").write_text(tokenizer_json(shape.vocab))
        (making / "config.json").write_text(json.dumps(shape.hf_config(), indent=1))
        if final.exists():  # of a run that was interrupted long ago
            shutil.rmtree(final)
        making.replace(final)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return final


def tokenizer_json(vocab: int) -> str:
    """A tokenizer of ``vocab`` entries that reads every text, byte by byte, and writes every id as some text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*SPECIAL, *alphabet]
    assert vocab >= len(entries), f"a vocabulary of {vocab} has no room for {len(entries)} bytes and special tokens"
    entries += [f"Ġword{index}" for index in range(vocab - len(entries))]
    tokenizer = Tokenizer(models.BPE(vocab={entry: index for index, entry in enumerate(entries)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(entry, special=True) for entry in SPECIAL])
    return tokenizer.to_str()


def _tensors(shape: LlamaShape, seed: int, advance: Callable[[], object] | None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, deviation: float) -> Tensor:
        return torch.empty(rows, columns, dtype=torch.float32).normal_(0.0, deviation, generator=generator).bfloat16()

    def norm() -> Tensor:
        return torch.empty(shape.hidden).normal_(1.0, 0.1, generator=generator).bfloat16()

    made = {EMBEDDING: normal(shape.vocab, shape.hidden, 1.0)}
    for block in range(shape.blocks):
        made |= {f"{block_prefix(block)}{name}": tensor for name, tensor in _block(shape, normal, norm)}
        if advance is not None:
            advance()
    return made | {FINAL_NORM: norm(), HEAD: normal(shape.vocab, shape.hidden, 2.0 * shape.hidden**-0.5)}


def _block(
    shape: LlamaShape, normal: Callable[[int, int, float], Tensor], norm: Callable[[], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    hidden, inner, kv = shape.hidden, shape.inner, shape.kv_heads * shape.head_dim
    read, add = hidden**-0.5, (2.0 * shape.blocks) ** -0.5
    yield "input_layernorm.weight", norm()
    yield "post_attention_layernorm.weight", norm()
    yield "self_attn.q_proj.weight", normal(hidden, hidden, read)
    yield "self_attn.k_proj.weight", normal(kv, hidden, read)
    yield "self_attn.v_proj.weight", normal(kv, hidden, read)
    yield "self_attn.o_proj.weight", normal(hidden, hidden, read * add)
    yield "mlp.gate_proj.weight", normal(inner, hidden, read)
    yield "mlp.up_proj.weight", normal(inner, hidden, read)
    yield "mlp.down_proj.weight", normal(hidden, inner, inner**-0.5 * add)
