"""Runs the benchmarks, one after the other, each in a process of its own: ``python -m benchmarks [name …]``. Without
names all of them, but for those that only run when they are named.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
ONLY_BY_NAME = ("soak", "gateway_soak", "conformance")  # long, or tools that are not installed; nothing of speed


def main(argv: list[str]) -> int:
    unknown = [name for name in argv if name not in NAMES]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = 0
    for name in argv or [name for name in NAMES if name not in ONLY_BY_NAME]:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
