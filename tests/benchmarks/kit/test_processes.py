from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.kit.processes import file_handles, peak_bytes, read_gauge, resident_bytes

PAGE = """# HELP shoal_peer_pages Pages of the KV cache; the states add up to all there are.
shoal_peer_pages{state="used"} 3.0
shoal_peer_pages{state="cached"} 12.0
"""


def test_a_gauge_is_read_from_what_prometheus_reads():
    assert read_gauge(PAGE, "shoal_peer_pages", 'state="used"') == 3
    assert read_gauge(PAGE, "shoal_peer_pages", 'state="lost"') is None


def test_this_process_has_memory_and_open_files():
    assert 1 << 20 < resident_bytes(os.getpid()) <= peak_bytes(os.getpid())
    assert file_handles(os.getpid()) >= 3


def test_a_process_that_has_ended_is_said_to_have():
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still listed
        with pytest.raises(ProcessLookupError, match="has ended"):
            resident_bytes(process.pid)
    finally:
        process.wait()
