"""Processor, memory, disk, limits, clock: judged by values of machines that are not at hand, and read once here."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from shoal import checks_machine as checks

GIB = 1 << 30


@pytest.mark.parametrize(
    ("flags", "machine", "quota", "state", "said"),
    [
        (["avx2", "avx512f"], "x86_64", None, "ok", "avx512f, avx2"),
        (["sse2"], "x86_64", None, "warn", "no AVX2"),
        (["asimddp"], "aarch64", None, "ok", "8 of 16 cores"),
        (["avx2"], "x86_64", 2.5, "warn", "--threads 2"),
        (["avx2"], "x86_64", 0.5, "warn", "--threads 1"),
        (["avx2"], "x86_64", 8.0, "ok", "8 of 16 cores"),
    ],
)
def test_processor(flags: list[str], machine: str, quota: float | None, state: str, said: str):
    finding = checks.judge_processor("CPU", machine, flags, 16, 8, quota)
    assert finding.state == state and said in finding.found + finding.advice


def test_a_containers_limits_are_read_in_both_versions(tmp_path: Path):
    new, old, none = tmp_path / "new", tmp_path / "old", tmp_path / "none"
    (old / "cpu").mkdir(parents=True)
    (old / "memory").mkdir()
    new.mkdir()
    (new / "cpu.max").write_text("150000 100000\n")
    (new / "memory.max").write_text("1073741824\n")
    (old / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (old / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (old / "memory" / "memory.limit_in_bytes").write_text("2147483648\n")
    assert (checks.cpu_quota(new), checks.cpu_quota(old), checks.cpu_quota(none)) == (1.5, 0.5, None)
    assert (checks.memory_limit(new), checks.memory_limit(old), checks.memory_limit(none)) == (GIB, 2 * GIB, None)
    (new / "cpu.max").write_text("max 100000\n")
    (new / "memory.max").write_text("max\n")
    (old / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert (checks.cpu_quota(new), checks.cpu_quota(old)) == (None, None)
    assert (checks.memory_limit(new), checks.memory_limit(old)) == (None, None)


@pytest.mark.parametrize(
    ("total", "free", "limit", "state"),
    [
        (16 * GIB, 12 * GIB, None, "ok"),
        (16 * GIB, 12 * GIB, 4 * GIB, "ok"),
        (16 * GIB, GIB // 2, None, "fail"),
        (16 * GIB, 3 * GIB // 2, None, "warn"),
        (16 * GIB, 12 * GIB, 3 * GIB // 2, "warn"),
        (None, 4 * GIB, None, "ok"),
    ],
)
def test_memory(total: int | None, free: int, limit: int | None, state: str):
    assert checks.judge_memory(total, free, limit).state == state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("always [madvise] never", "ok"),
        ("[always] madvise never", "ok"),
        ("always madvise [never]", "warn"),
        ("", "skipped"),
    ],
)
def test_huge_pages(text: str, state: str):
    assert checks.judge_huge_pages(text).state == state


def test_bandwidth_says_what_it_means_for_a_model():
    finding = checks.judge_bandwidth(11.0, 22.0, 4, "plain reads")
    assert finding.state == "ok" and "1.1B: 20" in finding.found
    assert checks.judge_bandwidth(3.0, None, 1, "plain reads").state == "warn"
    assert checks.bandwidth(free=1 << 20).state == "skipped"


def test_a_cache_that_cannot_be_written_has_to_be_mended(tmp_path: Path):
    assert checks.weight_cache(tmp_path / "not" / "yet").state in ("ok", "warn")
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    assert checks.weight_cache(file / "below").state == "fail"
    assert checks.weight_cache(Path("/proc/nothing")).state == "fail"
    assert checks.judge_disk("weight cache", tmp_path, 1 << 20).state == "warn"


def test_a_long_temporary_path_is_found_before_the_daemon_stumbles_over_it(tmp_path: Path):
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    assert checks.temporary_files(str(deep)).state == "fail"
    assert checks.temporary_files(str(tmp_path / "nothing")).state == "fail"
    assert checks.temporary_files("/tmp").state in ("ok", "warn")


@pytest.mark.parametrize(
    ("soft", "hard", "state", "advice"),
    [
        (1024, 4096, "ok", ""),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", ""),
        (256, 4096, "warn", "ulimit -n"),
        (256, 256, "warn", "LimitNOFILE"),
    ],
)
def test_open_files(soft: int, hard: int, state: str, advice: str):
    finding = checks.judge_open_files(soft, hard)
    assert finding.state == state and advice in finding.advice


def test_address_space():
    assert checks.judge_address_space(resource.RLIM_INFINITY).state == "ok"
    assert checks.judge_address_space(4 * GIB).state == "fail"


@pytest.mark.parametrize(("state", "seen"), [(0, "ok"), (5, "warn"), (-1, "skipped")])
def test_clock(state: int, seen: str):
    assert checks.judge_clock(state, 2500).state == seen


def test_here_it_looks_without_failing():
    looked = [checks.processor(), checks.memory(), checks.huge_pages(), checks.open_files(), checks.clock()]
    assert all(finding.found for finding in looked)
