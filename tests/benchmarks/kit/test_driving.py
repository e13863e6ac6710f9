from __future__ import annotations

from benchmarks.kit.driving import SAMPLE, Run, num_blocks, random_prompt, spans, traced_steps, vocabulary


def test_prompts_are_the_same_for_the_same_seed_and_ordinary_tokens():
    prompt = random_prompt(50, 4096, "a")
    assert prompt == random_prompt(50, 4096, "a") != random_prompt(50, 4096, "b")
    assert all(300 <= token < 4096 for token in prompt)


def test_spans_cover_every_block_once():
    assert spans(24, 3) == ["0:8", "8:16", "16:24"]
    assert spans(22, 4) == ["0:5", "5:11", "11:16", "16:22"]


def test_the_sample_model_is_what_its_config_says():
    assert (num_blocks(SAMPLE), vocabulary(SAMPLE)) == (24, 4096)


def test_a_run_without_a_result_has_no_tokens_and_no_trace():
    run = Run(1.0, [1.5, 2.0])
    assert (run.ttft_s, run.arrivals.gaps(), run.token_ids, traced_steps(run.result)) == (0.5, [0.5], (), [])
