"""A llama checkpoint as a GGUF file for llama.cpp, in Q8_0 or BF16. Needs the ``gguf`` package (extra ``bench``).

Two things differ from the Hugging Face layout. llama.cpp rotates neighbouring channels, Hugging Face's checkpoints are
trained for channel i with channel i + head_dim / 2: the rows of q and k are permuted so that both mean the same. And
norms are FP32. The vocabulary is a dummy of the right size: nothing but token ids goes in and out.
"""

from __future__ import annotations

import importlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks.kit.checkpoint import SPECIAL

Format = Literal["Q8_0", "BF16"]
FORMAT = 1

_BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # kinds of tokens


def can_export() -> bool:
    return find_spec("gguf") is not None


def gguf_file(checkpoint: Path, form: Format, advance: Callable[[], object] | None = None) -> Path:
    """The checkpoint as a file beside its own; made if it is not there. ``advance`` hears of every tensor written."""
    final = checkpoint / f"{form.lower()}-v{FORMAT}.gguf"
    if not final.exists():
        making = checkpoint / f".{final.name}.{secrets.token_hex(4)}.tmp"
        try:
            _write(checkpoint, form, making, advance)
            making.replace(final)
        finally:
            making.unlink(missing_ok=True)
    return final


def gguf_name(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` → ``blk.3.ffn_up.weight``."""
    ends = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in ends:
        return f"{ends[name]}.weight"
    block, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{block}.{_BLOCK_NAMES[part]}.weight"


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of q or k so that channels i and i + head_dim / 2 of each head become neighbours."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _write(checkpoint: Path, form: Format, path: Path, advance: Callable[[], object] | None) -> None:
    gguf: Any = importlib.import_module("gguf")
    config = json.loads((checkpoint / "config.json").read_text())
    kind = gguf.GGMLQuantizationType[form]
    with (
        closing(gguf.GGUFWriter(path, "llama")) as writer,
        safe_open(checkpoint / "model.safetensors", "pt") as file,
    ):
        _describe(gguf, writer, config, form)
        names = sorted(file.keys(), key=_in_order)
        for name in names:
            shape = file.get_slice(name).get_shape()
            if len(shape) == 1:
                writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.float32), 4 * shape[0])
            else:
                rows, row_bytes = shape[0], shape[1] // 32 * 34 if form == "Q8_0" else shape[1] * 2
                bytes_shape = (rows, row_bytes)
                writer.add_tensor_info(gguf_name(name), bytes_shape, np.dtype(np.uint8), rows * row_bytes, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name in names:
            writer.write_tensor_data(_data(gguf, file.get_tensor(name), name, config, form, kind))
            if advance is not None:
                advance()


def _data(gguf: Any, tensor: Tensor, name: str, config: dict[str, Any], form: Format, kind: Any) -> np.ndarray:
    if tensor.dim() == 1:
        return tensor.float().numpy()
    for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if part in name:
            tensor = interleaved(tensor, config[heads])
    if form == "BF16":
        return tensor.bfloat16().contiguous().view(torch.uint8).numpy()
    return gguf.quants.quantize(tensor.float().numpy(), kind)


def _describe(gguf: Any, writer: Any, config: dict[str, Any], form: Format) -> None:
    writer.add_name("random")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{form}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tokens, kinds = zip(*_vocabulary(config["vocab_size"]), strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_unk_token_id(0)


def _vocabulary(size: int) -> Iterator[tuple[str, int]]:
    yield SPECIAL[0], _UNKNOWN
    yield from ((token, _CONTROL) for token in SPECIAL[1:])
    yield from ((f"<0x{byte:02X}>", _BYTE) for byte in range(256))
    yield from ((f"▁word{index}", _NORMAL) for index in range(size - len(SPECIAL) - 256))


def _in_order(name: str) -> tuple[int, int, str]:
    """The embedding, Block after Block, the Head: the order in which they are used."""
    parts = name.split(".")
    if parts[1] == "layers":
        return 1, int(parts[2]), name
    return (0 if "embed" in name else 2), 0, name
