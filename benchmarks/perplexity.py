"""What does profile c8 cost, and which group size should it have? Held-out perplexity of the sample model, c8 against
f32.

The same weights are measured twice: as they are, and after a rescaling that keeps the function but makes a few channels
30 to 100 times larger than the rest, as in large language models: channels of both norms (their matrices' columns
shrink alike), channels of v (columns of o) and of up (columns of down). Perplexity alone is a noisy judge, since
rounding moves it up or down by luck; the mean KL divergence from f32's next-token distribution is beside it.

``c8`` is computed with every operation in ``kernels``, as a peer computes it, by the implementation that SHOAL_ISA
names or this machine prefers; on a few windows the reference does it too, and the logits must be the same bytes. What
c8 might have been is played: its roundings (weights, activations, keys and values) in FP32, which differs from a
definition of its own by FP32's rounding. ``c8, played`` shows by how much.

    python -m benchmarks.perplexity [--model DIR] [--tokens N] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.kit.machine import machine
from kernels import REFERENCE, Kernels, select
from kernels.types import GROUP, PAGE_SIZE, Linear, SeatRows
from model.config import ModelConfig, read_config
from model.layout import EMBEDDING, FINAL_NORM, HEAD, block_prefix
from model.parameters import AnyLinear, BlockWeights, FloatLinear, SpanWeights
from model.quantize import dequantize, float_block, float_ends, quantize_block, quantize_ends
from model.rope import RopeTable
from model.sample.train import corpus
from model.source import open_source
from model.span_model import SpanModel

SAMPLE = Path(__file__).resolve().parent.parent / "model" / "sample"
WINDOW, WINDOWS_A_BATCH, REFERENCE_WINDOWS = 512, 4, 2
GROUPS = (32, 64, 128)
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """One way to compute. ``group`` None: f32. ``planes`` 2 (15-bit activations) and ``balance`` False are what c8
    might have been.
    """

    name: str
    group: int | None
    planes: int = 1
    balance: bool = True


SETTINGS = [
    Setting("f32", None),
    *(Setting(f"c8, played, G = {group}", group) for group in GROUPS),
    *(Setting(f"two planes, G = {group}", group, planes=2) for group in GROUPS),
    *(Setting(f"c8 without balance, G = {group}", group, balance=False) for group in GROUPS),
    *(Setting(f"two planes without balance, G = {group}", group, planes=2, balance=False) for group in GROUPS),
]


@dataclass
class Score:
    loss: float = 0.0
    divergence: float = 0.0
    tokens: int = 0

    def add(self, logs: Tensor, expected: Tensor, targets: Tensor) -> None:  # log-probabilities [tokens, vocab] twice
        self.loss += F.nll_loss(logs, targets, reduction="sum").item()
        self.divergence += F.kl_div(logs, expected, reduction="sum", log_target=True).item()
        self.tokens += len(targets)

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss / self.tokens)

    @property
    def millinats(self) -> float:
        return 1000 * self.divergence / self.tokens

    def percent(self, base: Score) -> float:
        return 100 * (self.perplexity / base.perplexity - 1)


class Network:
    """A model in one Setting, over whole windows at a time, in FP32."""

    def __init__(self, config: ModelConfig, tensors: Tensors, setting: Setting):
        self.config, self.setting = config, setting
        self.weights = weights_of(config, tensors, setting)
        self.cos, self.sin = RopeTable(config).rows(range(WINDOW))
        self.matrices: dict[AnyLinear, Tensor] = {}

    def logits(self, ids: Tensor) -> Tensor:  # [windows, WINDOW] -> [windows * WINDOW, vocab]
        ends = self.weights.ends
        assert ends.embedding is not None and ends.norm is not None and ends.head is not None
        x = self._matrix(ends.embedding)[ids.flatten()]
        for block in self.weights.blocks:
            x = self._block(x, block, len(ids))
        return self._linear(self._norm(x, ends.norm), ends.head)

    def _block(self, x: Tensor, w: BlockWeights, windows: int) -> Tensor:
        config = self.config
        qkv = self._linear(self._norm(x, w.norm1), w.qkv).view(windows, WINDOW, -1, config.head_dim).transpose(1, 2)
        q, k, v = qkv.split([config.num_heads, config.num_kv_heads, config.num_kv_heads], 1)
        q, k = self._rotate(q), self._rotate(k)
        if self.setting.group is not None:
            k, v = k.half().float(), v.half().float()
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self._linear(seen.transpose(1, 2).reshape(len(x), -1), w.o)
        gate, up = self._linear(self._norm(x, w.norm2), w.gate_up).chunk(2, -1)
        return x + self._linear(F.silu(gate) * up, w.down)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (len(weight),), weight, self.config.rms_eps)

    def _rotate(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, -1)
        return torch.cat([left * self.cos - right * self.sin, right * self.cos + left * self.sin], -1)

    def _linear(self, x: Tensor, weight: AnyLinear) -> Tensor:
        if self.setting.group is not None:
            x = rounded(x, self.setting.group, 127 if self.setting.planes == 1 else 16256)
        return F.linear(x, self._matrix(weight))

    def _matrix(self, weight: AnyLinear) -> Tensor:
        if isinstance(weight, FloatLinear):
            return weight.weight
        assert isinstance(weight, Linear), "quantised here, so in rows"
        if weight not in self.matrices:
            self.matrices[weight] = dequantize(weight)
        return self.matrices[weight]


class Definition:
    """c8 as a peer computes it, over whole windows at a time."""

    def __init__(self, config: ModelConfig, tensors: Tensors, kernels: Kernels):
        self.pages = WINDOW // PAGE_SIZE
        weights = weights_of(config, tensors, Setting("c8", GROUP))
        self.model = SpanModel(config, config.span, weights, "c8", WINDOWS_A_BATCH * self.pages, kernels=kernels)

    def logits(self, ids: Tensor) -> Tensor:  # [windows, WINDOW] -> [windows * WINDOW, vocab]
        starts = range(0, len(ids) * self.pages, self.pages)
        seats = [SeatRows(tuple(range(start, start + self.pages)), 0, WINDOW) for start in starts]
        return self.model.logits(self.model.run(self.model.span, self.model.embed(ids.flatten().tolist()), seats))


def rounded(x: Tensor, group: int, most: int) -> Tensor:
    """Activations as their integers stand for them: ``most`` 127 in one INT8 plane, 16256 in two."""
    grouped = x.view(len(x), -1, group)
    amax = grouped.abs().amax(-1, keepdim=True).clamp_min_(1e-30)
    return (grouped * (most / amax)).round_().mul_(amax / most).view_as(x)


def weights_of(config: ModelConfig, tensors: Tensors, setting: Setting) -> SpanWeights:
    def reader(prefix: str) -> Callable[[str], Tensor]:
        return lambda name: tensors[prefix + name]

    readers = [reader(block_prefix(block)) for block in range(config.num_blocks)]
    if setting.group is None:
        blocks = tuple(float_block(read, config) for read in readers)
        return SpanWeights(blocks, float_ends(reader(""), config, embedding=True, head=True))
    blocks = tuple(quantize_block(read, config, setting.group, balance=setting.balance) for read in readers)
    ends = quantize_ends(reader(""), config, embedding=True, head=True, group=setting.group, balance=setting.balance)
    return SpanWeights(blocks, ends)


def with_outliers(config: ModelConfig, tensors: Tensors, seed: int) -> tuple[ModelConfig, Tensors]:
    """The same function with outlier channels: 3 of each norm, 2 of v, 6 of up, each by a factor from 30 to 100."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    tensors.setdefault(HEAD, tensors[EMBEDDING].clone())  # a tied Head cannot have outliers of its own

    def grow(producers: list[str], consumers: list[str], size: int, few: int, shared: int = 1) -> None:
        channels = torch.randperm(size, generator=generator)[:few]
        factors = torch.ones(size)
        factors[channels] = 30.0 * (100.0 / 30.0) ** torch.rand(few, generator=generator)
        for name in producers:
            tensors[name] *= factors.view(-1, *[1] * (tensors[name].dim() - 1))
        spread = factors.view(-1, 1, config.head_dim).expand(-1, shared, -1).reshape(-1) if shared > 1 else factors
        for name in consumers:
            tensors[name] /= spread

    for block in range(config.num_blocks):
        at = block_prefix(block)
        into = [f"{at}self_attn.{name}_proj.weight" for name in "qkv"]
        grow([f"{at}input_layernorm.weight"], into, config.hidden_size, 3)
        into = [f"{at}mlp.gate_proj.weight", f"{at}mlp.up_proj.weight"]
        grow([f"{at}post_attention_layernorm.weight"], into, config.hidden_size, 3)
        shared = config.num_heads // config.num_kv_heads
        grow([f"{at}self_attn.v_proj.weight"], [f"{at}self_attn.o_proj.weight"], config.kv_size, 2, shared)
        grow([f"{at}mlp.up_proj.weight"], [f"{at}mlp.down_proj.weight"], config.intermediate_size, 6)
    grow([FINAL_NORM], [HEAD], config.hidden_size, 3)
    return replace(config, tied=False), tensors


def windows_of(directory: Path, tokens: int) -> Tensor:
    """Windows [n, WINDOW + 1] of the held-out files; ``tokens`` of them, spread evenly, or all."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    _, held_out = corpus()
    texts = [tokenizer.encode(text).ids for text in held_out]
    windows = [ids[at : at + WINDOW + 1] for ids in texts for at in range(0, len(ids) - WINDOW, WINDOW)]
    count = min(len(windows), max(1, tokens // WINDOW))
    return torch.tensor([windows[i * len(windows) // count] for i in range(count)])


@torch.inference_mode()
def measure(
    networks: Mapping[str, Network | Definition], windows: Tensor, label: str, console: Console
) -> dict[str, Score]:
    """All networks on all windows; the first is what the others are compared with."""
    scores = {name: Score() for name in networks}
    for batch in track(windows.split(WINDOWS_A_BATCH), label, console=console):
        targets, expected = batch[:, 1:].flatten(), None
        for name, network in networks.items():
            logs = network.logits(batch[:, :-1]).log_softmax(-1)
            expected = logs if expected is None else expected
            scores[name].add(logs, expected, targets)
    return scores


@torch.inference_mode()
def equals_reference(config: ModelConfig, tensors: Tensors, windows: Tensor, console: Console) -> bool:
    """Whether the reference gives the logits of c8 byte for byte."""
    chosen, reference = Definition(config, tensors, select()), Definition(config, tensors, select(REFERENCE))
    with console.status("the reference, slowly"):
        return torch.equal(*(d.logits(windows[:, :-1]).view(torch.int32) for d in (chosen, reference)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out perplexity of c8 against f32.")
    parser.add_argument("--model", type=Path, default=SAMPLE)
    parser.add_argument("--tokens", type=int, default=20000, help="measure on so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the outliers' channels and factors")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(stderr=True)

    source = open_source(str(args.model), None, None)
    config = read_config(source.directory, source.name)
    tensors = {name: source.read(name).float() for name in source.tensors}
    windows = windows_of(args.model, args.tokens)
    rows: list[dict[str, object]] = []
    table = Table(
        "weights", "setting", "perplexity", "against f32", "KL, millinats", title=f"{windows[:, 1:].numel()} tokens"
    )
    for label, (shape, values) in {
        "plain": (config, tensors),
        "outliers": with_outliers(config, tensors, args.seed),
    }.items():
        networks: dict[str, Network | Definition] = {s.name: Network(shape, values, s) for s in SETTINGS}
        networks["c8"] = Definition(shape, values, select(threads=args.threads))
        scores = measure(networks, windows, label, console)
        for name, score in scores.items():
            percent, millinats = score.percent(scores["f32"]), score.millinats
            table.add_row(label, name, f"{score.perplexity:.4f}", f"{percent:+.3f} %", f"{millinats:.3f}")
            row = {"perplexity": round(score.perplexity, 5), "percent": round(percent, 4)}
            rows.append({"weights": label, "setting": name, **row, "kl_millinats": round(millinats, 4)})
    console.print(table)
    equal = equals_reference(config, tensors, windows[:REFERENCE_WINDOWS], console)
    verdict = "the same bytes" if equal else "DIFFERENT"
    console.print(f"{REFERENCE_WINDOWS} windows by {select().name} and by the reference: {verdict}")
    result = {
        "benchmark": "perplexity",
        "model": config.name,
        "tokens": windows[:, 1:].numel(),
        "group": GROUP,
        "rows": rows,
    }
    print(json.dumps({**result, "kernels": select().name, "equals_reference": equal, **machine()}))
    if not equal:
        sys.exit(1)


if __name__ == "__main__":
    main()
