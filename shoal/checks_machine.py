"""What this machine has: processor, memory and how fast it is read, disk, limits of the process, clock.

Judges take plain values; readers ask /proc, /sys and the C library, and say "skipped" where a system has no such thing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shoal.finding import Finding

CGROUP = Path("/sys/fs/cgroup")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAST_FLAGS = ("avx512_vnni", "avx512f", "avx2")  # of an x86 processor, best first
NO_LIMIT = 1 << 60  # cgroup v1 writes a huge number where there is none

PROCESS_BYTES = 1 << 30  # what a peer takes beside weights and KV cache, generously
LEAST_DISK_BYTES = 2 << 30
LEAST_FILES = 1024
LEAST_ADDRESS_BYTES = 16 << 30
SOCKET_PATH_LETTERS = 107  # that a UNIX socket's path may have
SOCKET_NAME = "/shoal-p2pd-0123456789abcdef.sock"

BUFFER_BYTES = 256 << 20  # far beyond any cache
READ_FOR_S = 0.6
MODELS_GB = (("1.1B", 1.1), ("8B", 7.6))  # INT8: what a token of such a model reads
SLOW_GB_S = 6.0

TIME_ERROR = 5  # adjtimex: the clock is not synchronised


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# Processor.


def processor() -> Finding:
    info = _text(Path("/proc/cpuinfo"))
    fields = dict(line.split(":", 1) for line in info.partition("\n\n")[0].splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    flags = (known.get("flags") or known.get("Features") or "").split()
    return judge_processor(
        known.get("model name") or platform.processor() or platform.machine(), platform.machine(), flags,
        os.cpu_count() or 1, len(os.sched_getaffinity(0)), cpu_quota(),
    )  # fmt: skip


def cpu_quota(cgroup: Path = CGROUP) -> float | None:
    """Processors that a container may use; None where nothing limits it."""
    new = _text(cgroup / "cpu.max").split()
    old = [_text(cgroup / "cpu" / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    for quota, period in (new, old) if len(new) == 2 else (old,):
        if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return None


def judge_processor(
    name: str, machine: str, flags: Sequence[str], cores: int, usable: int, quota: float | None
) -> Finding:
    has = [flag for flag in FAST_FLAGS if flag in flags]
    said = f"{name}; {usable} of {cores} cores"
    if has:
        said += f"; {', '.join(has)}"
    if quota is not None and quota < usable:
        advice = f"serve with --threads {max(1, int(quota))}: more would wait for each other"
        return Finding("processor", "warn", f"{said}; a container's limit allows {quota:g}", advice)
    if machine in ("x86_64", "AMD64") and not has:
        return Finding("processor", "warn", f"{said}; no AVX2", "it works with portable code, several times slower")
    return Finding("processor", "ok", said)


# Memory.


def memory() -> Finding:
    from peer.capacity import free_bytes

    total = next(
        (
            int(line.split()[1]) << 10
            for line in _text(Path("/proc/meminfo")).splitlines()
            if line.startswith("MemTotal:")
        ),
        None,
    )
    return judge_memory(total, free_bytes(), memory_limit())


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """Bytes that a container may have; None where nothing limits it."""
    for path in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        text = _text(path).strip()
        if text.isdigit() and int(text) < NO_LIMIT:
            return int(text)
    return None


def judge_memory(total: int | None, free: int, limit: int | None) -> Finding:
    said = f"{_gib(free)} free" + ("" if total is None else f" of {_gib(total)}")
    if limit is not None and (total is None or limit < total):
        said += f"; a container's limit allows {_gib(limit)}"
    if free < PROCESS_BYTES:
        return Finding("memory", "fail", said, "free some: a peer takes 0.5 to 1 GiB beside the weights")
    room = max(0, min(free, free if limit is None else limit) - PROCESS_BYTES)
    said += f"; room for blocks and KV cache: {_gib(room)}"
    if room < PROCESS_BYTES:
        return Finding("memory", "warn", said, "serve few blocks: --max-blocks, and a small --kv-tokens")
    return Finding("memory", "ok", said)


def huge_pages(path: Path = HUGE_PAGES) -> Finding:
    return judge_huge_pages(_text(path))


def judge_huge_pages(enabled: str) -> Finding:
    """``enabled``: the file of that name, for example ``always [madvise] never``."""
    chosen = enabled.partition("[")[2].partition("]")[0]
    if chosen in ("always", "madvise"):
        return Finding("huge pages", "ok", chosen)
    if chosen == "never":
        advice = f"echo madvise | sudo tee {HUGE_PAGES} (until the next boot): weights are read up to a third faster"
        return Finding("huge pages", "warn", "switched off", advice)
    return Finding("huge pages", "skipped", "this system does not say")


def bandwidth(free: int) -> Finding:
    """Reads memory as decoding does, with one thread and with all, for a second or so."""
    if free < 4 * BUFFER_BYTES:
        return Finding("bandwidth", "skipped", f"too little memory is free to measure it ({_gib(free)})")
    cores = len(os.sched_getaffinity(0))
    try:
        from kernels.memory import huge
        from kernels.native import available, open
    except ImportError:
        return judge_bandwidth(_read_plainly(), None, cores, "numpy's sum")
    buffer = huge(BUFFER_BYTES)
    if buffer is None:
        return judge_bandwidth(_read_plainly(), None, cores, "numpy's sum")
    buffer.fill_(1)  # written, or all pages would be one
    rates: list[float] = []
    for threads in (1, cores) if cores > 1 else (1,):
        arithmetic = open(available()[0], threads)
        rates.append(_best_rate(lambda: arithmetic.read_sum(buffer)))  # noqa: B023 - called at once
    return judge_bandwidth(rates[0], rates[-1] if cores > 1 else None, cores, "plain reads")


def _read_plainly() -> float:
    import numpy as np

    buffer = np.ones(BUFFER_BYTES // 8, np.int64)
    return _best_rate(buffer.sum)


def _best_rate(read: object) -> float:
    """GB/s of the best pass: others may use the machine just now."""
    assert callable(read)
    best, until = float("inf"), time.perf_counter() + READ_FOR_S
    while (begun := time.perf_counter()) < until:
        read()
        best = min(best, time.perf_counter() - begun)
    return BUFFER_BYTES / best / 1e9


def judge_bandwidth(one: float, all_cores: float | None, cores: int, how: str) -> Finding:
    """In GB/s. Decoding reads every weight once a token, so this is what bounds it."""
    most = max(one, all_cores or 0.0)
    said = f"one thread {one:.1f} GB/s" + ("" if all_cores is None else f", {cores} threads {all_cores:.1f}")
    speeds = ", ".join(f"{name}: {most / size:.0f}" for name, size in MODELS_GB)
    said = f"{said} ({how}); so tokens/s of an INT8 model, all its blocks here, at most: {speeds}"
    if most < SLOW_GB_S:
        return Finding(
            "bandwidth", "warn", said, "look what else runs here; serve fewer blocks, the swarm does the rest"
        )
    return Finding("bandwidth", "ok", said)


# Disk.


def weight_cache(path: Path) -> Finding:
    """Whether quantised weights can be kept in ``path``, which need not exist yet. Writes a file that has no name."""
    there = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
    if not there.is_dir():
        return Finding("weight cache", "fail", f"{there} is not a directory", "remove it, or serve with --cache DIR")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"shoal" * 1000)
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        said = f"cannot write to {there}: {error.strerror}"
        return Finding("weight cache", "fail", said, "give yourself the right to, or serve with --cache DIR elsewhere")
    return judge_disk("weight cache", path, free)


def judge_disk(check: str, path: Path, free: int) -> Finding:
    said = f"{path}: {_gib(free)} free"
    if free < LEAST_DISK_BYTES:
        return Finding(
            check, "warn", said, "make room: every block's INT8 weights are kept there once (1.1 GB for a 1.1B model)"
        )
    return Finding(check, "ok", said)


def temporary_files(directory: str | None = None) -> Finding:
    """Where the p2p daemon's socket is, and KV pages and journals that find no room in memory."""
    try:
        where = directory or tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"shoal")
            file.flush()
        free = shutil.disk_usage(where).free
    except OSError as error:
        return Finding(
            "temporary files", "fail", f"cannot write: {error.strerror}", "set TMPDIR to a directory of yours"
        )
    if len(where) + len(SOCKET_NAME) > SOCKET_PATH_LETTERS:
        said = f"{where} has {len(where)} letters; the p2p daemon's socket there would have too long a name"
        return Finding("temporary files", "fail", said, "set TMPDIR to a shorter path")
    return judge_disk("temporary files", Path(where), free)


# Limits of this process.


def open_files() -> Finding:
    return judge_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def judge_open_files(soft: int, hard: int) -> Finding:
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return Finding("open files", "ok", "no limit" if soft == resource.RLIM_INFINITY else str(soft))
    can = hard == resource.RLIM_INFINITY or hard >= LEAST_FILES
    advice = (
        f"ulimit -n {4 * LEAST_FILES}" if can else "raise it in /etc/security/limits.conf, or LimitNOFILE= of the unit"
    )
    return Finding("open files", "warn", f"at most {soft}: every client and peer is one", advice)


def address_space() -> Finding:
    return judge_address_space(resource.getrlimit(resource.RLIMIT_AS)[0])


def judge_address_space(limit: int) -> Finding:
    if limit == resource.RLIM_INFINITY or limit >= LEAST_ADDRESS_BYTES:
        return Finding("address space", "ok", "no limit" if limit == resource.RLIM_INFINITY else _gib(limit))
    said = f"at most {_gib(limit)} (RLIMIT_AS): torch alone maps several, used or not"
    return Finding(
        "address space", "fail", said, "ulimit -v unlimited; to limit memory use a container or systemd's MemoryMax="
    )


# Clock.


class _Timex(ctypes.Structure):
    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("frequency", ctypes.c_long),
        ("max_error_us", ctypes.c_long), ("rest", ctypes.c_byte * 512),
    ]  # fmt: skip


def clock() -> Finding:
    """What the kernel knows of its own clock: every NTP program tells it. Reads only."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return Finding("clock", "skipped", "this system does not say whether its clock is right")
    return judge_clock(state, timex.max_error_us)


def judge_clock(state: int, max_error_us: int) -> Finding:
    """``state``: what adjtimex returned."""
    if state < 0:
        return Finding("clock", "skipped", "this system does not say whether its clock is right")
    if state == TIME_ERROR:
        advice = "timedatectl set-ntp true (in a container: on the host); with --join it is compared with the peers'"
        return Finding("clock", "warn", "nothing keeps it right; peers' clocks must agree within 3 s", advice)
    return Finding("clock", "ok", f"kept right by NTP, within {max_error_us / 1e6:.3f} s by its own account")


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
