import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kernels.panels import Panels, pack
from kernels.types import Linear
from model.config import read_config
from model.fingerprint import fingerprint
from model.parameters import BlockWeights, EndsWeights, FloatLinear, SpanWeights, tensors
from model.quantize import quantize_block
from model.source import SINGLE, open_source
from model.weights import load_ends, load_span, span_tensors
from swarm.errors import CorruptCheckpoint, UsageError
from swarm.span import Span
from tests.support.checkpoints import VARIANTS, make_variant
from tests.support.hub import Hub

ALL = Span(0, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One directory a variant, made when first asked for."""
    known: dict[str, Path] = {}

    def get(variant: str) -> Path:
        if variant not in known:
            known[variant] = make_variant(tmp_path_factory.mktemp(variant), variant, dtype=torch.bfloat16)
        return known[variant]

    return get


def opened(directory: Path):
    source = open_source(directory)
    return source, read_config(directory)


def parts(weights: SpanWeights) -> list[BlockWeights | EndsWeights]:
    return [*weights.blocks, weights.ends]


def same(one: SpanWeights, other: SpanWeights) -> bool:
    pairs = list(zip(parts(one), parts(other), strict=True))
    return all(
        [tensor.dtype for tensor in tensors(a)] == [tensor.dtype for tensor in tensors(b)]
        and all(x.equal(y) for x, y in zip(tensors(a), tensors(b), strict=True))
        for a, b in pairs
    )


@pytest.mark.parametrize(
    "variant", ["llama", "llama-tied", "llama-biases", "llama-odd-sizes", "mistral", "qwen2", "qwen3"]
)
def test_profile_f32_holds_the_checkpoints_matrices_in_order(made, variant):
    source, config = opened(made(variant))
    file = {name: tensor.float() for name, tensor in load_file(made(variant) / SINGLE).items()}
    weights = load_span(source, config, ALL, "f32")
    assert len(weights.blocks) == 4
    for index, block in enumerate(weights.blocks):
        prefix = f"model.layers.{index}."

        def matrices(*names: str, kind: str = "weight", prefix: str = prefix) -> torch.Tensor:
            return torch.cat([file[f"{prefix}{name}.{kind}"] for name in names])

        qkv = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        for linear, names, has_bias in (
            (block.qkv, qkv, config.qkv_bias),
            (block.o, ("self_attn.o_proj",), config.o_bias),
            (block.gate_up, ("mlp.gate_proj", "mlp.up_proj"), config.mlp_bias),
            (block.down, ("mlp.down_proj",), config.mlp_bias),
        ):
            assert isinstance(linear, FloatLinear) and linear.weight.equal(matrices(*names))
            assert (linear.bias is not None) == has_bias
            assert linear.bias is None or linear.bias.equal(matrices(*names, kind="bias"))
        assert block.norm1.equal(file[prefix + "input_layernorm.weight"])
        assert block.norm2.equal(file[prefix + "post_attention_layernorm.weight"])
        assert (block.q_norm is not None) == (block.k_norm is not None) == config.qk_norm
        if block.q_norm is not None and block.k_norm is not None:
            assert block.q_norm.equal(file[prefix + "self_attn.q_norm.weight"])
            assert block.k_norm.equal(file[prefix + "self_attn.k_norm.weight"])
    ends = weights.ends
    assert isinstance(ends.embedding, FloatLinear) and isinstance(ends.head, FloatLinear) and ends.norm is not None
    assert ends.embedding.weight.equal(file["model.embed_tokens.weight"]) and ends.norm.equal(file["model.norm.weight"])
    assert ends.head.weight.equal(file["model.embed_tokens.weight" if config.tied else "lm_head.weight"])
    assert (ends.head is ends.embedding) == config.tied


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_profile_c8_is_quantised_and_comes_back_from_the_cache_bit_by_bit(made, variant, tmp_path):
    source, config = opened(made(variant))
    fresh = load_span(source, config, ALL, "c8", tmp_path)
    expected = quantize_block(lambda name: source.read(f"model.layers.2.{name}"), config)
    assert all(a.equal(b) for a, b in zip(tensors(fresh.blocks[2]), tensors(expected), strict=True))
    source, _ = opened(made(variant))
    cached = load_span(source, config, ALL, "c8", tmp_path)
    assert same(fresh, cached)
    assert isinstance(cached.blocks[0].down, Linear) and cached.blocks[0].down.in_features == config.intermediate_size
    assert (cached.ends.head is cached.ends.embedding) == config.tied


@pytest.mark.parametrize("variant", ["llama", "llama-tied", "llama-biases", "llama-odd-sizes", "qwen3"])
def test_panels_hold_the_same_and_come_back_from_the_cache_bit_by_bit(made, variant, tmp_path):
    source, config = opened(made(variant))
    rows = load_span(source, config, ALL, "c8")
    fresh = load_span(source, config, ALL, "c8", tmp_path, layout="panels")
    before = source.bytes_read
    cached = load_span(source, config, ALL, "c8", tmp_path, layout="panels", threads=3)
    assert source.bytes_read == before, "all of it is cached"
    assert same(fresh, cached)
    for one, other in zip(parts(rows), parts(cached), strict=True):
        for name, value in vars(one).items():
            packed = getattr(other, name)
            if isinstance(value, Linear):
                assert isinstance(packed, Panels) and packed.data.data_ptr() % 64 == 0
                assert packed.data.equal(pack(value).data)
                assert (packed.out_features, packed.in_features) == (value.out_features, value.in_features)
                assert (packed.bias is None) == (value.bias is None)
                assert packed.bias is None or value.bias is None or packed.bias.equal(value.bias)
            else:
                assert (packed is None and value is None) or packed.equal(value)
    assert (cached.ends.head is cached.ends.embedding) == config.tied


def test_each_layout_has_files_of_its_own(made, tmp_path):
    source, config = opened(made("llama"))
    rows = load_span(source, config, ALL, "c8", tmp_path)
    load_span(source, config, ALL, "c8", tmp_path, layout="panels")
    assert len(list(tmp_path.iterdir())) == 2
    before = source.bytes_read
    assert same(load_span(source, config, ALL, "c8", tmp_path), rows) and source.bytes_read == before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")
@pytest.mark.parametrize("layout", ["rows", "panels"])
def test_a_first_start_keeps_the_files_that_it_wrote_mapped_like_a_later_one(made, tmp_path, layout):
    source, config = opened(made("llama"))
    weights = load_span(source, config, ALL, "c8", tmp_path, layout=layout)
    mapped = Path("/proc/self/maps").read_text()
    assert len(weights.blocks) == 4 and all(str(path) in mapped for path in tmp_path.rglob("*.safetensors"))


def test_profile_f32_is_never_packed(made):
    source, config = opened(made("llama"))
    assert isinstance(load_span(source, config, ALL, "f32", layout="panels").blocks[0].qkv, FloatLinear)


@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
@pytest.mark.parametrize(
    ("span", "ends"), [("0:2", "embedding"), ("1:3", ""), ("2:4", "norm head"), ("0:4", "embedding norm head")]
)
def test_only_the_ends_that_touch_the_span_are_there(made, variant, span, ends):
    source, config = opened(made(variant))
    weights = load_span(source, config, Span.parse(span))
    assert {name for name, value in vars(weights.ends).items() if value is not None} == set(ends.split())
    assert len(weights.blocks) == len(Span.parse(span))


@pytest.mark.parametrize("variant", ["llama", "llama-tied", "qwen3"])
@pytest.mark.parametrize("span", ["0:1", "1:3", "3:4", "0:4"])
@pytest.mark.parametrize("profile", ["c8", "f32"])
def test_only_the_bytes_of_the_span_and_its_ends_are_read(made, variant, span, profile):
    source, config = opened(made(variant))
    headers = source.bytes_read
    load_span(source, config, Span.parse(span), profile)
    assert source.bytes_read - headers == sum(
        source.tensors[name].nbytes for name in span_tensors(config, Span.parse(span))
    )


def test_the_tensors_of_a_span_are_those_of_its_blocks_and_ends(made):
    _, config = opened(made("llama"))
    names = span_tensors(config, Span(3, 4))
    assert {"model.norm.weight", "lm_head.weight"} < set(names) and "model.embed_tokens.weight" not in names
    assert all(name.startswith(("model.layers.3.", "model.norm", "lm_head")) for name in names)
    _, tied = opened(made("llama-tied"))
    assert "model.embed_tokens.weight" in span_tensors(tied, Span(3, 4))
    assert span_tensors(tied, ALL).count("model.embed_tokens.weight") == 1


@pytest.mark.parametrize("profile", ["c8", "f32"])
@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
def test_the_ends_alone_are_those_of_the_whole_model_and_nothing_else_is_read(made, variant, profile):
    source, config = opened(made(variant))
    before = source.bytes_read
    ends = load_ends(source, config, profile)
    assert source.bytes_read - before == sum(source.tensors[name].nbytes for name in span_tensors(config, None))
    assert same(SpanWeights((), ends), SpanWeights((), load_span(source, config, ALL, profile).ends))
    assert (ends.embedding is ends.head) == config.tied


@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
def test_the_ends_alone_and_spans_share_their_files_in_the_cache(made, variant, tmp_path):
    source, config = opened(made(variant))
    load_span(source, config, ALL, cache_dir=tmp_path)
    before = source.bytes_read
    kept = load_ends(source, config, cache_dir=tmp_path)
    assert source.bytes_read == before
    first = load_ends(source, config, cache_dir=tmp_path / "other")
    assert same(SpanWeights((), first), SpanWeights((), kept))
    parts_made = {path.stem for path in (tmp_path / "other").rglob("*.safetensors")}
    assert parts_made == ({"head"} if config.tied else {"head", "embedding"})


def test_from_the_hub_only_the_spans_bytes_are_served(made, tmp_path, monkeypatch):
    local, config = opened(make_variant(tmp_path / "m", "llama", dtype=torch.bfloat16, max_shard_size="30KB"))
    with Hub() as hub:
        hub.add("org/name", tmp_path / "m")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        source = open_source("org/name", None, tmp_path / "cache")
        source.files.piece_bytes = 1000  # several requests a tensor
        headers = hub.weight_bytes
        weights = load_span(source, config, Span(1, 3))
        wanted = sum(source.tensors[name].nbytes for name in span_tensors(config, Span(1, 3)))
        assert hub.weight_bytes - headers == wanted < 0.5 * sum(entry.nbytes for entry in source.tensors.values())
        assert same(weights, load_span(local, config, Span(1, 3)))


def test_a_cached_span_is_not_read_again_and_overlapping_spans_share_blocks(made, tmp_path):
    source, config = opened(made("llama"))
    load_span(source, config, Span(0, 3), "c8", tmp_path)
    source, _ = opened(made("llama"))
    load_span(source, config, Span(1, 3), "c8", tmp_path)
    before = source.bytes_read
    weights = load_span(source, config, Span(1, 4), "c8", tmp_path)
    names = [
        *(name for name in source.tensors if name.startswith("model.layers.3.")),
        "model.norm.weight",
        "lm_head.weight",
    ]
    assert source.bytes_read - before == sum(source.tensors[name].nbytes for name in names)
    assert same(weights, load_span(source, config, Span(1, 4)))


def middle_of(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """A tensor zeroed where no sample is taken of it."""
    edited = tensors[name].clone()
    edited[len(edited) // 2] = 0
    return edited


def test_an_edited_checkpoint_is_never_served_the_weights_of_the_original(tmp_path):
    """Not even where the fingerprint has no sample."""
    directory = make_variant(tmp_path / "m", "llama", dtype=torch.float32)
    source, config = opened(directory)
    before = load_span(source, config, ALL, "c8", tmp_path / "cache")
    file, name = load_file(directory / SINGLE), "model.layers.1.mlp.gate_proj.weight"
    size = (directory / SINGLE).stat().st_size
    save_file({**file, name: middle_of(name, file)}, directory / SINGLE, {"format": "pt"})
    assert (directory / SINGLE).stat().st_size == size
    edited, _ = opened(directory)
    assert fingerprint(edited, config) == fingerprint(source, config), "the edit is one that it does not see"
    after = load_span(edited, config, ALL, "c8", tmp_path / "cache")
    assert same(after, load_span(edited, config, ALL)) and not same(after, before)


def test_a_checkpoint_that_changes_while_it_is_read_is_refused_and_not_cached(tmp_path):
    directory = make_variant(tmp_path / "m", "llama")
    source, config = opened(directory)

    def edit(done: int, total: int) -> None:
        if done > total // 2:
            os.utime(directory / SINGLE, ns=(0, done))

    with pytest.raises(CorruptCheckpoint, match="changed while it was being read"):
        load_span(source, config, ALL, "c8", tmp_path / "cache", edit)
    opened_again, _ = opened(directory)
    before = opened_again.bytes_read
    load_span(opened_again, config, ALL, "c8", tmp_path / "cache")
    assert opened_again.bytes_read - before > sum(entry.nbytes for entry in source.tensors.values())


def test_a_damaged_cache_is_made_again(made, tmp_path, caplog):
    source, config = opened(made("llama"))
    fresh = load_span(source, config, ALL)  # not of the files that are about to be damaged
    load_span(source, config, ALL, "c8", tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert [path.stem for path in files] == [
        "block-0000",
        "block-0001",
        "block-0002",
        "block-0003",
        "embedding",
        "head",
    ]
    for path in files:
        data = bytearray(path.read_bytes())
        data[-10] ^= 0x40
        path.write_bytes(data)
    assert same(load_span(source, config, ALL, "c8", tmp_path), fresh)
    assert caplog.text.count("making it again") == len(files)
    caplog.clear()
    assert same(load_span(source, config, ALL, "c8", tmp_path), fresh) and not caplog.text


def test_a_cache_directory_that_cannot_be_written_does_not_stop_us(made, tmp_path):
    source, config = opened(made("llama"))
    (tmp_path / "file").touch()
    assert same(load_span(source, config, ALL, "c8", tmp_path / "file"), load_span(source, config, ALL))


@pytest.mark.parametrize("profile", ["c8", "f32"])
def test_progress_counts_the_checkpoints_bytes_to_the_end(made, profile, tmp_path):
    for variant in ("llama", "llama-tied"):
        for _ in range(2):  # the second time from the cache
            source, config = opened(made(variant))
            heard: list[tuple[int, int]] = []
            load_span(
                source, config, ALL, profile, tmp_path, lambda done, total, heard=heard: heard.append((done, total))
            )
            total = sum(entry.nbytes for entry in source.tensors.values())
            assert heard[0] == (0, total) and heard[-1] == (total, total)
            assert [done for done, _ in heard] == sorted(done for done, _ in heard)
            assert len(heard) >= 5


def test_a_span_outside_the_model_is_a_usage_error(made):
    source, config = opened(made("llama"))
    with pytest.raises(UsageError, match="has Blocks 0:4, it cannot serve 2:5"):
        load_span(source, config, Span(2, 5))
    with pytest.raises(UsageError, match="choose one of c8, f32"):
        load_span(source, config, ALL, "fp4")  # type: ignore[arg-type]


def test_a_missing_or_bent_tensor_is_named_with_both_shapes(made, tmp_path):
    file = load_file(made("llama") / SINGLE)
    (tmp_path / "config.json").write_text((made("llama") / "config.json").read_text())
    name = "model.layers.1.self_attn.k_proj.weight"
    save_file({**file, name: torch.zeros(31, 64)}, tmp_path / SINGLE)
    with pytest.raises(
        CorruptCheckpoint, match=r"k_proj\.weight' has shape \[31, 64\], config\.json calls for \[32, 64\]"
    ):
        load_span(*opened(tmp_path), ALL)
    file.pop(name)
    save_file(file, tmp_path / SINGLE)
    with pytest.raises(CorruptCheckpoint, match=r"no tensor 'model\.layers\.1\.self_attn\.k_proj\.weight'.*\[32, 64\]"):
        load_span(*opened(tmp_path), ALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", ["model.layers.1.input_layernorm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_nan_and_infinity_are_corrupt_in_both_profiles(made, tmp_path, value, dtype, name):
    file = {key: tensor.to(dtype) for key, tensor in load_file(made("llama") / SINGLE).items()}
    file[name].view(-1)[-1] = value
    save_file(file, tmp_path / SINGLE)
    (tmp_path / "config.json").write_text((made("llama") / "config.json").read_text())
    source, config = opened(tmp_path)
    for profile in ("c8", "f32"):
        with pytest.raises(CorruptCheckpoint, match=f"{name}' holds NaN or infinity"):
            load_span(source, config, Span(1, 2), profile)
    load_span(source, config, Span(2, 3))
