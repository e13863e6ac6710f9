"""Trains the model that ships: a small Llama on the Python standard library's own source.

    python -m model.sample.train --out model/sample

Everything is seeded, and nothing is fetched: the corpus is the ``.py`` files beside ``os.py``, tests included, without
the code page tables of ``encodings`` and a file of help texts. The files of ``HELD_OUT`` are never trained on; the
perplexity that ``README.md`` quotes is measured on them.

A deep and narrow network learns slowly on a CPU, so it is grown: six Blocks learn first (four times as many tokens a
second), are then stacked four times over to make the 24 ("G_stack", Du et al. 2024, arXiv:2405.15319), and go on
learning together, at last on long windows. Matrices are updated by Muon (Jordan et al. 2024: momentum, orthogonalised
by five Newton-Schulz steps), the rest by AdamW. All Blocks' weights of one kind live in one tensor
``[blocks, out, in]``, so that an update is a few batched products.
"""

from __future__ import annotations

import argparse
import json
import math
import sysconfig
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HELD_OUT = (
    "argparse.py",
    "heapq.py",
    "textwrap.py",
    "queue.py",
    "statistics.py",
    "zipfile.py",
    "shelve.py",
    "http/cookies.py",
)
EXCLUDED_PARTS = {"site-packages", "encodings", "pydoc_data", "__pycache__"}

BLOCKS, SHALLOW, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 24, 6, 128, 256, 4, 2, 32
VOCAB, MAX_POSITIONS, ROPE_THETA, EPS = 4096, 2048, 10000.0, 1e-5
END_OF_TEXT = "<|endoftext|>"


def corpus() -> tuple[list[str], list[str]]:
    """The training and the held-out texts, in path order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    train: list[str] = []
    held: list[str] = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if EXCLUDED_PARTS & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        (held if relative.as_posix() in HELD_OUT else train).append(text)
    return train, held


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE over the training texts; id 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(pattern=_split_pattern(), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _split_pattern():
    from tokenizers import Regex

    # Words with one leading space, short numbers, punctuation, and a line's indentation as one piece with its newline.
    return Regex(r" ?[A-Za-z]+|_+|\d{1,3}| ?[^\s\w]+|\n[ ]*|\s+|[^\s]")


class Net(torch.nn.Module):
    """Llama, all Blocks of a kind in one tensor; computes in bfloat16 over float32 master weights."""

    def __init__(self, blocks: int, generator: torch.Generator):
        super().__init__()
        qkv = (HEADS + 2 * KV_HEADS) * HEAD_DIM

        def normal(*shape: int, std: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator) * std)

        self.embed = normal(VOCAB, HIDDEN, std=0.02)
        self.qkv = normal(blocks, qkv, HIDDEN, std=HIDDEN**-0.5)
        self.o = normal(blocks, HIDDEN, HEADS * HEAD_DIM, std=HIDDEN**-0.5 / math.sqrt(2 * BLOCKS))
        self.gate_up = normal(blocks, 2 * INTERMEDIATE, HIDDEN, std=HIDDEN**-0.5)
        self.down = normal(blocks, HIDDEN, INTERMEDIATE, std=INTERMEDIATE**-0.5 / math.sqrt(2 * BLOCKS))
        self.norm1 = torch.nn.Parameter(torch.ones(blocks, HIDDEN))
        self.norm2 = torch.nn.Parameter(torch.ones(blocks, HIDDEN))
        self.norm = torch.nn.Parameter(torch.ones(HIDDEN))

    def stacked(self, times: int) -> Net:
        """The same network with its Blocks repeated ``times`` over."""
        net = Net(1, torch.Generator())
        for name, value in self.named_parameters():
            data = value.data.clone()
            if name not in ("embed", "norm"):
                data = data.repeat(times, *[1] * (data.dim() - 1))
            setattr(net, name, torch.nn.Parameter(data))
        return net

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # [batch, tokens] -> logits [batch, tokens, vocab]
        batch, tokens = ids.shape
        embed, qkvs, os, gate_ups, downs = (
            w.bfloat16() for w in (self.embed, self.qkv, self.o, self.gate_up, self.down)
        )
        cos, sin = (t.bfloat16() for t in _rope_table(tokens))
        x = F.embedding(ids, embed)
        # unbind, not an index a Block: its gradient is one stack instead of a full-size addition each.
        blocks = zip(*(w.unbind() for w in (qkvs, os, gate_ups, downs, self.norm1, self.norm2)), strict=True)
        for qkv, o, gate_up, down, norm1, norm2 in blocks:
            q, k, v = (
                F.linear(_norm(x, norm1), qkv)
                .view(batch, tokens, -1, HEAD_DIM)
                .transpose(1, 2)
                .split([HEADS, KV_HEADS, KV_HEADS], 1)
            )
            a = _attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, tokens, -1), o)
            gate, up = F.linear(_norm(x, norm2), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(_norm(x, self.norm), embed)

    def checkpoint(self) -> dict[str, torch.Tensor]:
        """The weights under Hugging Face's names, bfloat16."""
        out: dict[str, torch.Tensor] = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm}
        q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
        for i in range(len(self.qkv)):
            p = f"model.layers.{i}."
            out[p + "input_layernorm.weight"] = self.norm1[i]
            out[p + "post_attention_layernorm.weight"] = self.norm2[i]
            for name, w in zip("qkv", self.qkv[i].split([q, kv, kv]), strict=True):
                out[p + f"self_attn.{name}_proj.weight"] = w
            out[p + "self_attn.o_proj.weight"] = self.o[i]
            out[p + "mlp.gate_proj.weight"], out[p + "mlp.up_proj.weight"] = self.gate_up[i].chunk(2)
            out[p + "mlp.down_proj.weight"] = self.down[i]
        return {name: w.detach().bfloat16().contiguous() for name, w in out.items()}


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), EPS)


def _rope_table(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    frequencies = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.outer(torch.arange(tokens).float(), frequencies)
    return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:  # [batch, heads, tokens, head_dim]
    tokens = q.shape[2]
    if tokens > 512:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    # On short windows and a CPU, two products and a softmax are faster than the flash kernel, above all backwards.
    mask = torch.full((tokens, tokens), -1e4, dtype=q.dtype).triu(1)
    grouped = (q * HEAD_DIM**-0.5).reshape(q.shape[0] * KV_HEADS, -1, HEAD_DIM)  # rows of one KV head side by side
    scores = (grouped @ k.flatten(0, 1).transpose(1, 2)).view(*q.shape[:2], tokens, tokens) + mask
    return (scores.softmax(-1).view(len(grouped), -1, tokens) @ v.flatten(0, 1)).view_as(q)


class Optimizer:
    """Muon for the matrices of the Blocks, AdamW for the embedding and the norms."""

    def __init__(self, net: Net, muon_lr: float, adam_lr: float):
        matrices = [p for p in net.parameters() if p.dim() == 3]
        others = [p for p in net.parameters() if p.dim() < 3]
        self.matrices = [(p, torch.zeros_like(p)) for p in matrices]
        self.adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.muon_lr, self.adam_lr = muon_lr, adam_lr

    @torch.no_grad()
    def step(self, factor: float, step: int) -> None:
        momentum = 0.85 + 0.10 * min(1.0, step / 300)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        for weight, velocity in self.matrices:
            grad = weight.grad
            assert grad is not None
            velocity.lerp_(grad, 1 - momentum)
            update = _orthogonal(grad.lerp(velocity, momentum))
            rate = self.muon_lr * factor
            weight.mul_(1 - 0.05 * rate).add_(update, alpha=-rate * max(1.0, weight.shape[1] / weight.shape[2]) ** 0.5)
            weight.grad = None
        self.adam.zero_grad()


def _orthogonal(g: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrices by five quintic Newton-Schulz steps, batched over Blocks."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * s @ s) @ x
    return x.transpose(1, 2) if tall else x


@torch.no_grad()
def perplexity(net: Net, texts: list[list[int]], window: int = 1024) -> tuple[float, int]:
    """exp of the mean loss over windows of the held-out texts, and the number of predicted tokens."""
    total, count = 0.0, 0
    for ids in texts:
        for start in range(0, len(ids) - 1, window):
            piece = torch.tensor(ids[start : start + window + 1])[None]
            loss = F.cross_entropy(net(piece[:, :-1])[0].float(), piece[0, 1:], reduction="sum")
            total, count = total + loss.item(), count + piece.shape[1] - 1
    return math.exp(total / count), count


def train(net: Net, data: torch.Tensor, phases: list[tuple[int, int, int]], schedule, seed: int, log) -> None:
    """Run ``phases`` of (steps, windows, tokens a window); ``schedule(progress)`` scales the learning rates."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = Optimizer(net, muon_lr=0.02, adam_lr=0.004)
    total, step, begun, mean = sum(p[0] for p in phases), 0, time.time(), None
    for steps, windows, tokens in phases:
        for _ in range(steps):
            starts = torch.randint(0, len(data) - tokens - 1, (windows,), generator=generator)
            batch = torch.stack([data[s : s + tokens + 1] for s in starts.tolist()])
            logits = net(batch[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimizer.step(schedule(step / total), step)
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            step += 1
            if step % 50 == 0:
                log(f"step {step}/{total} blocks {len(net.qkv)} loss {mean:.4f} {time.time() - begun:.0f} s")


def warm_stable_decay(warm: float, decay: float):
    """Linear warm-up over the first part ``warm``, linear decay to zero over the last part ``decay``."""
    return lambda p: min(1.0, (p + 1e-4) / warm if warm else 1.0, max(0.0, (1 - p) / decay) if decay else 1.0)


def save(net: Net, tokenizer: Tokenizer, out: Path) -> None:
    """Write the Hugging Face layout: config, weights, tokenizer, chat template, generation defaults."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(net.checkpoint(), out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": EPS,
        "hidden_act": "silu",
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "bfloat16",
    }
    template = (
        "{% for m in messages %}# {{ m['role'] }}: {{ m['content'] | replace('\n', '\n# ') }}\n{% endfor %}"
        "{% if add_generation_prompt %}# assistant: {% endif %}"
    )
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
        "chat_template": template,
    }
    generation = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    for name, value in (("config", config), ("tokenizer_config", tokenizer_config), ("generation_config", generation)):
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the sample model on the standard library.")
    parser.add_argument("--out", type=Path, default=Path("model/sample"))
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--steps-shallow", type=int, default=2200)
    parser.add_argument("--steps-deep", type=int, default=1500)
    parser.add_argument("--steps-long", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    texts, held = corpus()
    tokenizer = train_tokenizer(texts)
    encode = lambda text: tokenizer.encode(text).ids  # noqa: E731
    data = torch.tensor([i for text in texts for i in [*encode(text), 0]])
    held_ids = [encode(text) for text in held]
    size = sum(len(t.encode()) for t in texts)
    print(f"{len(texts)} files, {size} bytes, {len(data)} tokens ({size / len(data):.2f} bytes a token)", flush=True)

    log = lambda line: print(line, flush=True)  # noqa: E731
    net = Net(SHALLOW, torch.Generator().manual_seed(args.seed))
    train(net, data, [(args.steps_shallow, 16, 256)], warm_stable_decay(0.02, 0.0), args.seed, log)
    log("shallow: held-out perplexity {:.3f} over {} tokens".format(*perplexity(net, held_ids)))
    net = net.stacked(BLOCKS // SHALLOW)
    save(net, tokenizer, args.out)
    phases = [(args.steps_deep, 16, 256), (args.steps_long, 2, 2048)]
    train(net, data, phases, warm_stable_decay(0.01, 0.35), args.seed + 1, log)
    log("deep: held-out perplexity {:.3f} over {} tokens".format(*perplexity(net, held_ids)))
    save(net, tokenizer, args.out)


if __name__ == "__main__":
    main()
