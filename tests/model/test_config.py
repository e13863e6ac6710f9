import json

import pytest

from model.config import MAX_JSON_BYTES, ModelConfig, RopeConfig, read_config
from swarm.errors import CorruptCheckpoint, ModelError, ModelNotFound, UnsupportedModel
from tests.support.checkpoints import VARIANTS, make_variant

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}


def write(directory, generation=None, **changes):
    fields = {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(fields))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return directory


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[str, ModelConfig]:
    return {name: read_config(make_variant(tmp_path_factory.mktemp(name), name), name) for name in VARIANTS}


def test_every_variant_is_read_with_its_sizes(configs):
    for name, config in configs.items():
        assert config.name == name
        assert config.num_blocks == len(config.windows) == len(config.span) == 4
        assert config.family == VARIANTS[name][0].replace("ministral", "mistral")
    assert configs["llama-head-dim"].head_dim == 24 and configs["llama-head-dim"].q_size == 96
    assert configs["llama-multi-query"].kv_size == 16


def test_biases_belong_to_where_each_family_has_them(configs):
    options = {
        name: (config.qkv_bias, config.o_bias, config.mlp_bias, config.qk_norm) for name, config in configs.items()
    }
    assert options["llama"] == (False, False, False, False)
    assert options["llama-biases"] == (True, True, True, False)
    assert options["mistral"] == (False, False, False, False)
    assert options["qwen2"] == (True, False, False, False)
    assert options["qwen3"] == (False, False, False, True)
    assert options["qwen3-biases"] == (True, True, False, True)


def test_tied_embeddings_are_told_from_untied_ones(configs):
    assert {name for name, config in configs.items() if config.tied} == {name for name in VARIANTS if "tied" in name}


def test_windows_are_given_block_by_block(configs):
    assert configs["mistral"].windows == (None,) * 4
    assert configs["mistral-window"].windows == (24,) * 4
    assert configs["mistral-layer-types"].windows == (None, 24, None, 24)
    assert configs["qwen2"].windows == (None,) * 4
    assert configs["qwen2-window"].windows == (None, None, 24, 24)
    assert configs["qwen3-window"].windows == (None, 24, None, 24)


def test_a_window_as_wide_as_the_model_is_none(tmp_path):
    changes = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 256}
    assert read_config(write(tmp_path, **changes)).windows == (None,) * 4


def test_rope_kinds_keep_their_parameters(configs):
    assert configs["llama"].rope == RopeConfig(theta=10000.0)
    assert configs["llama-linear"].rope == RopeConfig("linear", factor=4.0, original_max_positions=256)
    assert configs["llama-dynamic"].rope == RopeConfig("dynamic", factor=2.0, original_max_positions=64)
    assert configs["llama-llama3"].rope == RopeConfig(
        "llama3", 500000.0, 8.0, 64, low_freq_factor=1.0, high_freq_factor=4.0
    )
    assert configs["llama-yarn"].rope == RopeConfig("yarn", factor=4.0, original_max_positions=64)
    yarn = RopeConfig("yarn", 1e6, 4.0, 64, beta_fast=16.0, beta_slow=2.0, mscale=1.0, mscale_all_dim=0.5)
    assert configs["qwen2-yarn"].rope == yarn


def test_rope_scaling_of_older_files_means_the_same(tmp_path):
    old = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.25}
    rope = read_config(write(tmp_path, rope_scaling=old, rope_theta=1e6)).rope
    assert rope == RopeConfig("yarn", 1e6, 4.0, 64, attention_factor=1.25)


def test_the_name_is_the_directory_unless_given(tmp_path):
    directory = write(tmp_path)
    assert read_config(directory).name == tmp_path.name
    assert read_config(directory, "org/name@v1").name == "org/name@v1"


def test_end_of_text_comes_from_generation_config_first(tmp_path):
    assert read_config(write(tmp_path)).eos_token_ids == (2,)
    assert read_config(write(tmp_path, {"eos_token_id": [7, 5, 7]})).eos_token_ids == (5, 7)
    assert read_config(write(tmp_path, {}, eos_token_id=None)).eos_token_ids == ()


def test_missing_heads_default_to_one_key_value_head_each(tmp_path):
    config = read_config(write(tmp_path, num_key_value_heads=...))
    assert (config.num_kv_heads, config.head_dim) == (4, 16)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not supported; supported: llama, mistral, qwen2, qwen3"),
        ({"model_type": None}, "None is not supported"),
        ({"model_type": ["llama"]}, "is not supported"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"hidden_act": "gelu"}, "'gelu' is not supported; supported: silu"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "supported; name one in bf16"),
        (
            {
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0] * 8,
                    "long_factor": [2.0] * 8,
                    "factor": 2.0,
                }
            },
            "'longrope'",
        ),
        ({"partial_rotary_factor": 0.5}, "partial"),
        (
            {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "layer_types": ["linear_attention"] * 4},
            "'linear_attention'",
        ),
        (
            {"model_type": "qwen2", "architectures": None, "layer_types": ["chunked_attention"] * 4},
            "'chunked_attention'",
        ),
    ],
)
def test_what_is_unsupported_is_named_in_one_line(tmp_path, changes, named):
    with pytest.raises(UnsupportedModel) as caught:
        read_config(write(tmp_path, **changes))
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "large"},
        {"hidden_size": 0},
        {"hidden_size": -64},
        {"hidden_size": 66},  # does not divide among 4 heads
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 0},
        {"head_dim": 15},
        {"head_dim": -16},
        {"vocab_size": 10**12},
        {"intermediate_size": None},
        {"rms_norm_eps": 0.0},
        {"rms_norm_eps": float("nan")},
        {"rope_theta": 0.0},
        {"rope_theta": float("inf")},
        {"rope_scaling": {"rope_type": "linear"}},
        {"rope_scaling": {"rope_type": "linear", "factor": 0.0}},
        {"rope_scaling": {"rope_type": "linear", "factor": "four"}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}},
        {"rope_scaling": "linear"},
        {"model_type": "mistral", "architectures": None, "sliding_window": 0},
        {"model_type": "qwen2", "architectures": None, "layer_types": ["full_attention"]},
        {"eos_token_id": "</s>"},
        {"tie_word_embeddings": "perhaps"},
    ],
)
def test_nonsense_is_a_corrupt_checkpoint_in_one_line(tmp_path, changes):
    with pytest.raises(CorruptCheckpoint) as caught:
        read_config(write(tmp_path, **changes))
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"llama"', "\x00\x01", "[" * 100_000, '{"hidden_size": ' + "9" * 5000 + "}"]
)
def test_what_is_not_a_json_object_is_corrupt(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CorruptCheckpoint) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_huge_config_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(CorruptCheckpoint, match="expected no more than"):
        read_config(tmp_path)


def test_without_config_json_there_is_no_model(tmp_path):
    with pytest.raises(ModelNotFound, match="Hugging Face layout"):
        read_config(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ModelNotFound):
        read_config(tmp_path / "file")


def test_code_that_comes_with_a_checkpoint_is_never_run(tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    write(tmp_path, auto_map={"AutoConfig": "evil.Config"})
    assert read_config(tmp_path).family == "llama"
    with pytest.raises(ModelError):
        read_config(write(tmp_path, model_type="evil", auto_map={"AutoConfig": "evil.Config"}))
    assert not (tmp_path / "ran").exists()
