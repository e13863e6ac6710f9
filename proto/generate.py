"""``python -m proto.generate`` makes shoal_pb2.py and .pyi from shoal.proto; ``--check`` only says if they are stale.

Two things are changed in what protoc writes. Its own version, which it demands of the runtime down to the patch level,
becomes the release that the project asks for. And ``Mapping`` gets its arguments, which pyright's strict mode wants.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("shoal_pb2.py", "shoal_pb2.pyi")
RUNTIME = (7, 35, 0)  # of protobuf: the oldest that may read the generated code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proto.generate", description="Generate the code of shoal.proto.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the generated code is stale")
    check = parser.parse_args().check
    try:
        made = generate()
    except ModuleNotFoundError:
        print("proto.generate needs grpcio-tools: pip install 'shoal[dev]'", file=sys.stderr)
        return 2
    stale = [name for name, text in made.items() if not _same(HERE / name, text)]
    if check and stale:
        print(f"stale: {', '.join(f'proto/{name}' for name in stale)}; run python -m proto.generate", file=sys.stderr)
        return 1
    for name in stale:
        (HERE / name).write_text(made[name])
        print(f"wrote proto/{name}")
    return 0


def generate() -> dict[str, str]:
    """The generated files by name, as text."""
    protoc = import_module("grpc_tools.protoc")  # only developers have it

    with tempfile.TemporaryDirectory() as out:
        arguments = ["protoc", f"-I{HERE.parent}", f"--python_out={out}", f"--pyi_out={out}", "proto/shoal.proto"]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused proto/shoal.proto; its message is above")
        return {name: settle((Path(out) / "proto" / name).read_text()) for name in FILES}


def settle(text: str) -> str:
    """``text`` without what differs between two patch releases of protoc."""
    text = re.sub(r"^# Protobuf Python Version: .*\n", "", text, flags=re.MULTILINE)
    runtime = "".join(f"    {part},\n" for part in RUNTIME)
    text = re.sub(r"(?<=Domain\.PUBLIC,\n)(?:    \d+,\n){3}", runtime, text)
    return re.sub(r"_Mapping(?=\])", "_Mapping[str, object]", text)


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
