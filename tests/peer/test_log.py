from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, structlog, warnings
from peer.log import configure
configure("info")
structlog.get_logger("peer.x").info("link ends", link=3, why="it\\nbroke")
logging.getLogger("shoal.dht").warning("cannot reach %s", "a peer")
logging.getLogger("grpc").info("chatter")
structlog.get_logger("peer.x").debug("too quiet")
warnings.warn("old thing")
class ExecuteBatchError(Exception): ...
for kind in (ExecuteBatchError, OSError):
    try:
        raise kind("inside gRPC")
    except Exception:
        logging.getLogger("grpc._cython.cygrpc").exception("raised in core by servicer method")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("peer.x").exception("failed")
"""


def test_whoever_speaks_each_line_on_stderr_is_one_json_object():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "warning", "error", "error"]
    assert (lines[0]["event"], lines[0]["link"], lines[0]["logger"]) == ("link ends", 3, "peer.x")
    assert (lines[1]["event"], lines[1]["logger"]) == ("cannot reach a peer", "shoal.dht")
    assert "old thing" in lines[2]["event"]
    assert "OSError" in lines[3]["exception"]
    assert "ZeroDivisionError" in lines[4]["exception"]
    assert all("timestamp" in line for line in lines)
