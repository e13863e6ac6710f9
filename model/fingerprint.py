"""Which model this is, for machines: two Peers may serve one Session only when their fingerprints are equal.

A fingerprint covers what the arithmetic depends on (configuration, every tensor's name, dtype and shape) and samples of
the weights: the final norm and 4 KiB from the middle of a few matrices of the first, the middle and the last Block.
That tells apart fine-tunes, dtypes and mixed-up versions for a few small reads; it is no proof against somebody who
means to deceive. How a checkpoint is cut into files does not matter, nor where it is or what it is called.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import partial

from model.config import ModelConfig
from model.layout import EMBEDDING, FINAL_NORM, block_prefix, check_tensors, head_tensor, model_tensors
from model.source import Source

FORMAT = 1
SAMPLE_BYTES = 4096
NOT_ARITHMETIC = ("name", "eos_token_ids")
SAMPLED = ("self_attn.q_proj.weight", "self_attn.v_proj.weight", "mlp.down_proj.weight")


def fingerprint(source: Source, config: ModelConfig) -> str:
    """32 hex digits. Raises CorruptCheckpoint when the checkpoint is not complete. A second call on a Source costs
    nothing.
    """
    fields = {key: value for key, value in asdict(config).items() if key not in NOT_ARITHMETIC}
    canonical = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
    if canonical not in source.fingerprints:
        source.fingerprints[canonical] = _digest(source, config, canonical)
    return source.fingerprints[canonical]


def _digest(source: Source, config: ModelConfig, canonical: str) -> str:
    check_tensors(source, config)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(canonical.encode())
    for name in sorted(model_tensors(config)):
        entry = source.tensors[name]
        digest.update(f"\n{name} {entry.dtype} {list(entry.shape)}".encode())
    blocks = sorted({0, config.num_blocks // 2, config.num_blocks - 1})
    names = [FINAL_NORM, EMBEDDING, head_tensor(config)]
    names += [block_prefix(block) + name for block in blocks for name in SAMPLED]
    for sample in source.in_order(partial(source.sample, name, SAMPLE_BYTES) for name in dict.fromkeys(names)):
        digest.update(hashlib.blake2b(sample).digest())
    return digest.hexdigest()
