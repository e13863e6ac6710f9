"""Which model this is, for machines: two Peers may serve one Session only when their fingerprints are equal.

A fingerprint covers what the arithmetic depends on (configuration, every tensor's name, dtype and shape) and samples of
every tensor: norms and biases whole, 1 KiB of each matrix of each Block, 4 KiB of the embedding and of the Head. So it
tells apart dtypes, mixed-up versions, fine-tunes, and edits that replace, scale, mask or add to whole matrices, be it
one matrix of one Block. How a checkpoint is cut into files does not matter, nor where it is or what it is called.

What it does not catch: a change inside a matrix that leaves its sampled KiB alone (some rows or heads, a patch, a
flipped bit), and somebody who means to deceive, who needs no more than that. Two Peers may then serve one Session with
different weights. The cache on disk does not rely on it alone, see ``model.cache``.

The price is the number of reads, not their bytes: over the network each takes a round trip. Checkpoints are written in
order of names, so the sampled end of each matrix is the one that meets its neighbour's: ``down_proj | gate_proj``,
``up_proj | norm | k_proj``, ``o_proj | q_proj``, ``v_proj | next Block's norm`` are one read each, four a Block instead
of nine. A file in another order gives the same fingerprint by more reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import asdict

from model.config import ModelConfig
from model.layout import EMBEDDING, check_tensors, head_tensor, model_tensors
from model.safetensors_header import TensorEntry
from model.source import Source

FORMAT = 2
SAMPLE_BYTES = 1024
END_SAMPLE_BYTES = 4096
NOT_ARITHMETIC = ("name", "eos_token_ids")
SAMPLED_AT_ITS_END = (
    "mlp.down_proj.weight",
    "mlp.up_proj.weight",
    "self_attn.o_proj.weight",
    "self_attn.v_proj.weight",
)


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
    names = sorted(model_tensors(config))
    for name in names:
        entry = source.tensors[name]
        digest.update(f"\n{name} {entry.dtype} {list(entry.shape)}".encode())
    ends = (EMBEDDING, head_tensor(config))
    for sample in source.samples([(name, _sampled(source.tensors[name], name, ends)) for name in names]):
        digest.update(hashlib.blake2b(sample).digest())
    source.check_unchanged(names)
    return digest.hexdigest()


def _sampled(entry: TensorEntry, name: str, ends: Container[str]) -> slice:
    """Which of a tensor's bytes count."""
    if len(entry.shape) == 1:
        return slice(0, entry.nbytes)
    if name in ends:  # its middle: the first and last rows are often of tokens that nobody trained
        start = max(0, (entry.nbytes - END_SAMPLE_BYTES) // 2) // 8 * 8
        return slice(start, start + END_SAMPLE_BYTES)
    if name.endswith(SAMPLED_AT_ITS_END):
        return slice(max(0, entry.nbytes - SAMPLE_BYTES), entry.nbytes)
    return slice(0, SAMPLE_BYTES)
