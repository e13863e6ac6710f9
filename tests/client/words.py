"""A tokenizer of 1000 tokens: 256 bytes, 743 pairs of letters, <|end|>. So half letters and merges both occur."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = 999
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = "abcdefghijklmnopqrstuvwxyzĠ_"
    pairs = [(a, b) for a in letters for b in letters][:743]
    vocabulary = {word: n for n, word in enumerate([*alphabet, *(a + b for a, b in pairs)])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    assert made.get_vocab_size() == 1000 and made.token_to_id("<|end|>") == END
    return made


def files(*, chat: bool = True) -> dict[str, bytes]:
    """What a peer hands out."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    if chat:
        config["chat_template"] = TEMPLATE
    return {
        "tokenizer.json": tokenizer().to_str().encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
        "generation_config.json": json.dumps({"temperature": 0.6, "top_k": 20, "top_p": 0.9}).encode(),
    }


def directory(into: Path, *, chat: bool = True) -> Path:
    for name, data in files(chat=chat).items():
        (into / name).write_bytes(data)
    return into
