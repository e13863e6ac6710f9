"""What a model is, read from its ``config.json`` through transformers' AutoConfig, and nothing that it does.

Four families share one decoder layer; what differs between them is options: biases, QK-norm, sliding windows, the kind
of RoPE. ``read_config`` turns a Hugging Face configuration into those options and refuses, by name, whatever they
cannot express. Remote code is never run. A number that cannot be meant is a CorruptCheckpoint, an option that Shoal
lacks an UnsupportedModel.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.errors import CorruptCheckpoint, ModelNotFound, UnsupportedModel
from swarm.span import Span

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ROPE_KINDS = ("default", "linear", "dynamic", "llama3", "yarn")
MAX_JSON_BYTES = 4 << 20

# config.json's model_type → (family, architectures). AutoConfig calls a Mistral with several windows "ministral".
_KNOWN = {
    "llama": ("llama", ("LlamaForCausalLM",)),
    "mistral": ("mistral", ("MistralForCausalLM",)),
    "ministral": ("mistral", ("MistralForCausalLM", "MinistralForCausalLM")),
    "qwen2": ("qwen2", ("Qwen2ForCausalLM",)),
    "qwen3": ("qwen3", ("Qwen3ForCausalLM",)),
}


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding. Fields that a ``kind`` does not use keep their defaults.

    ``linear`` and ``dynamic`` use ``factor``; ``llama3`` adds the two frequency factors and ``original_max_positions``;
    ``yarn`` uses ``factor``, ``original_max_positions``, the betas, ``truncate``, and for its attention scaling
    ``attention_factor`` or, where that is None, ``mscale`` / ``mscale_all_dim`` or ``factor`` alone. For ``dynamic``,
    ``original_max_positions`` is the model's maximum.
    """

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One decoder-only model. ``windows[b]`` is how many positions a query of Block b sees, its own included; None: all
    of them.
    """

    family: str
    name: str
    hidden_size: int
    intermediate_size: int
    num_blocks: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    rms_eps: float
    rope: RopeConfig
    tied: bool  # the Head uses the embedding's matrix
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool  # RMSNorm over head_dim of every query and key head, before RoPE
    windows: tuple[int | None, ...]
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field, most in _MOST.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
                raise CorruptCheckpoint(f"config.json: {field} is {value!r}, expected an integer from 1 to {most}")
        if self.num_heads % self.num_kv_heads:
            raise CorruptCheckpoint(
                f"config.json: {self.num_heads} query heads do not divide among {self.num_kv_heads} key-value heads"
            )
        if self.head_dim % 2:
            raise CorruptCheckpoint(f"config.json: head_dim is {self.head_dim}, expected an even number")
        if self.rope.kind == "dynamic" and self.head_dim < 4:
            raise CorruptCheckpoint(f"config.json: head_dim is {self.head_dim}, dynamic RoPE needs at least 4")
        if not 0.0 < self.rms_eps < 1.0:
            raise CorruptCheckpoint(f"config.json: rms_norm_eps is {self.rms_eps}, expected a number between 0 and 1")
        if len(self.windows) != self.num_blocks:
            raise CorruptCheckpoint(f"config.json: {len(self.windows)} layer types for {self.num_blocks} layers")

    @property
    def span(self) -> Span:
        """All Blocks."""
        return Span(0, self.num_blocks)

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


_MOST = {
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_blocks": 4096,
    "num_heads": 4096,
    "num_kv_heads": 4096,
    "head_dim": 512,  # what the native kernels have room for; twice what any family uses
    "vocab_size": 1 << 24,
    "max_positions": 1 << 28,
}


def read_config(directory: str | Path, name: str | None = None) -> ModelConfig:
    """The configuration in ``directory``; ``name`` is what people call the model (default: the directory's name).

    Raises ModelNotFound without a config.json, CorruptCheckpoint where it cannot be meant, UnsupportedModel where Shoal
    cannot follow.
    """
    directory = Path(directory)
    path = directory / "config.json"
    written = read_json(path)
    model_type = written.get("model_type")
    if not isinstance(model_type, str) or model_type not in _KNOWN:
        raise UnsupportedModel(f"{path}: model_type {model_type!r} is not supported; supported: {', '.join(FAMILIES)}")
    _check_layers(path, written.get("num_hidden_layers"))
    auto = _auto_config(directory)
    family, _ = _KNOWN[auto.model_type]
    _refuse_unsupported(path, auto)
    num_heads, hidden_size = _whole(path, auto, "num_attention_heads"), _whole(path, auto, "hidden_size")
    max_positions = _whole(path, auto, "max_position_embeddings")
    attention_bias = family in ("llama", "qwen3") and bool(auto.attention_bias)
    return ModelConfig(
        family=family,
        name=name or directory.resolve().name or "model",
        hidden_size=hidden_size,
        intermediate_size=_whole(path, auto, "intermediate_size"),
        num_blocks=_whole(path, auto, "num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=_whole(path, auto, "num_key_value_heads"),
        head_dim=_whole(path, auto, "head_dim")
        if getattr(auto, "head_dim", None) is not None
        else hidden_size // num_heads,
        vocab_size=_whole(path, auto, "vocab_size"),
        max_positions=max_positions,
        rms_eps=float(auto.rms_norm_eps),
        rope=_rope(path, auto.rope_parameters, max_positions),
        tied=bool(auto.tie_word_embeddings),
        qkv_bias=family == "qwen2" or attention_bias,
        o_bias=attention_bias,
        mlp_bias=family == "llama" and bool(auto.mlp_bias),
        qk_norm=family == "qwen3",
        windows=_windows(path, auto, max_positions),
        eos_token_ids=_eos_token_ids(directory, auto),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file of a checkpoint. Raises ModelNotFound, CorruptCheckpoint."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise CorruptCheckpoint(f"{path} has {size} bytes, expected no more than {MAX_JSON_BYTES}")
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFound(f"{path} does not exist; name a directory in Hugging Face layout, or a Hub id") from None
    except OSError as error:
        raise ModelNotFound(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} is not JSON: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def one_line(error: BaseException | str, most: int = 240) -> str:
    """A foreign message as one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _check_layers(path: Path, written: Any) -> None:
    """Before anybody makes a list with an item for every layer."""
    most = _MOST["num_blocks"]
    if isinstance(written, int | float) and not 0 < written <= most:
        raise CorruptCheckpoint(f"{path}: num_hidden_layers is {written}, expected an integer from 1 to {most}")


def _auto_config(directory: Path) -> Any:
    """transformers' own reading of config.json (imported here: it takes two seconds)."""
    from transformers import AutoConfig
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001 whatever a foreign validator throws at nonsense is the file's fault
        raise CorruptCheckpoint(
            f"{directory / 'config.json'} makes no sense to transformers: {one_line(error)}"
        ) from None
    finally:
        logging.set_verbosity(verbosity)


def _refuse_unsupported(path: Path, auto: Any) -> None:
    _, architectures = _KNOWN[auto.model_type]
    if auto.architectures and not set(architectures) & set(auto.architectures):
        raise UnsupportedModel(
            f"{path}: architecture {auto.architectures[0]!r} is not supported; supported here: {architectures[0]}"
        )
    if auto.hidden_act != "silu":
        raise UnsupportedModel(f"{path}: activation {auto.hidden_act!r} is not supported; supported: silu")
    if getattr(auto, "quantization_config", None) is not None:
        raise UnsupportedModel(f"{path}: quantised checkpoints are not supported; name one in bf16, f16 or f32")
    if getattr(auto, "is_heterogeneous", False):
        raise UnsupportedModel(
            f"{path}: per-layer sizes (per_layer_config) are not supported; supported: layers of one shape"
        )


def _rope(path: Path, written: Any, max_positions: int) -> RopeConfig:
    if not isinstance(written, dict):
        raise CorruptCheckpoint(f"{path}: rope parameters are {written!r}, expected an object")
    if any(isinstance(value, dict) for value in written.values()):
        raise UnsupportedModel(
            f"{path}: RoPE parameters that differ between layers are not supported; supported: one set for all"
        )
    kind = written.get("rope_type", "default")
    if kind not in ROPE_KINDS:
        raise UnsupportedModel(f"{path}: RoPE type {kind!r} is not supported; supported: {', '.join(ROPE_KINDS)}")
    if written.get("partial_rotary_factor", 1.0) != 1.0 or written.get("mrope_section"):
        raise UnsupportedModel(
            f"{path}: partial or multimodal RoPE is not supported; supported: RoPE over the whole head"
        )

    def number(key: str, default: float | None, least: float) -> float | None:
        value = written.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            raise CorruptCheckpoint(f"{path}: RoPE {key} is {value!r}, expected a number of at least {least:g}")
        return float(value)

    theta = number("rope_theta", 10000.0, 2.0)
    assert theta is not None
    if kind == "default":
        return RopeConfig(theta=theta)
    original = max_positions if kind in ("linear", "dynamic") else written.get("original_max_position_embeddings")
    if not isinstance(original, int) or not 0 < original <= _MOST["max_positions"]:
        raise CorruptCheckpoint(
            f"{path}: RoPE original_max_position_embeddings is {original!r}, expected a positive integer"
        )
    factor = number("factor", max_positions / original if kind == "yarn" else None, 1.0)
    if factor is None:
        raise CorruptCheckpoint(f"{path}: RoPE type {kind!r} has no factor")
    common = {"kind": kind, "theta": theta, "factor": factor, "original_max_positions": original}
    if kind == "llama3":
        low, high = number("low_freq_factor", None, 0.0), number("high_freq_factor", None, 0.0)
        if not low or not high or low >= high:
            raise CorruptCheckpoint(f"{path}: RoPE frequency factors are {low} and {high}, expected 0 < low < high")
        return RopeConfig(**common, low_freq_factor=low, high_freq_factor=high)
    if kind == "yarn":
        return RopeConfig(
            **common,
            attention_factor=number("attention_factor", None, 0.0),
            beta_fast=number("beta_fast", None, 0.0) or 32.0,
            beta_slow=number("beta_slow", None, 0.0) or 1.0,
            mscale=number("mscale", None, 0.0),
            mscale_all_dim=number("mscale_all_dim", None, 0.0),
            truncate=bool(written.get("truncate", True)),
        )
    return RopeConfig(**common)


def _windows(path: Path, auto: Any, max_positions: int) -> tuple[int | None, ...]:
    """One window a Block. A window that reaches over all positions is none."""
    num_blocks = _whole(path, auto, "num_hidden_layers")
    window = getattr(auto, "sliding_window", None)
    kinds = getattr(auto, "layer_types", None)
    if auto.model_type == "llama":
        return (None,) * num_blocks
    if kinds is None:
        kinds = ["full_attention" if window is None else "sliding_attention"] * num_blocks
    strange = sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"})
    if strange:
        raise UnsupportedModel(
            f"{path}: layer type {strange[0]!r} is not supported; supported: full_attention, sliding_attention"
        )
    if "sliding_attention" in kinds and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise CorruptCheckpoint(f"{path}: sliding_window is {window!r}, expected a positive integer")
    return tuple(
        window if kind == "sliding_attention" and window is not None and window < max_positions else None
        for kind in kinds
    )


def _eos_token_ids(directory: Path, auto: Any) -> tuple[int, ...]:
    """generation_config.json's word first, then config.json's, as ``generate`` does."""
    path = directory / "generation_config.json"
    written = read_json(path).get("eos_token_id") if path.exists() else None
    if written is None:
        written = auto.eos_token_id
    ids = written if isinstance(written, list) else [] if written is None else [written]
    if not all(isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0 for entry in ids):
        raise CorruptCheckpoint(f"{directory}: eos_token_id is {written!r}, expected token ids")
    return tuple(sorted({entry for entry in ids if entry < auto.vocab_size}))


def _whole(path: Path, auto: Any, key: str) -> int:
    value = getattr(auto, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CorruptCheckpoint(f"{path}: {key} is {value!r}, expected a positive integer")
    return value
