"""Do load generators that others wrote work with the gateway, and what do they measure?

The sample model on three peers, a gateway in front, and against it ``llama-benchy`` and ``guidellm`` as their makers
ship them: streamed chats and completions, one at a time and several at once. They have their own ideas of what a stream
must look like (llama-benchy fails on ``"usage": null``; guidellm asks for ``continuous_usage_stats``). What they print
is shown; what they saved is read, and every request has to have come to its end.

They bring many packages, one of them in another version than ours, and so have a virtual environment of their own
(docs/performance-gateway.md makes one): --tools names its programs. A tool that is not there is left out, and that is
said.

    python -m benchmarks.conformance [--tools DIR] [--only guidellm] [--quick]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.kit.driving import COMMON, SAMPLE, arguments, num_blocks, spans
from benchmarks.kit.gateways import LocalGateway
from benchmarks.kit.report import Bar, conclude, console
from benchmarks.kit.workers import ROOT
from peer.local import LocalSwarm

TOOL_S = 120.0
QUIET = {"GUIDELLM__LOGGING__DISABLED": "true", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Failed(Exception):
    """A tool ended badly; the message has its last words."""


def benchy(program: str, url: str, model: str, book: str, home: Path, quick: bool) -> dict[str, Any]:
    """Tokens a second of prompts and answers, by streams at once."""
    saved = home / "benchy.json"
    _run(
        [program, "--base-url", f"{url}/v1", "--model", model, "--tokenizer", str(SAMPLE), "--book-url", book,
         "--pp", "128", "--tg", "32", "--exact-tg", "--runs", "1" if quick else "3", "--skip-coherence",
         "--concurrency", "1", *([] if quick else ["4"]), "--no-cache", "--format", "json",
         "--save-result", str(saved)],
        home,
    )  # fmt: skip
    return {"tests": json.loads(saved.read_text())["benchmarks"]}


def guidellm(program: str, url: str, path: str, home: Path, quick: bool) -> dict[str, Any]:
    """Requests that came to their end, and how many tokens they had."""
    saved, count = home / "guidellm.json", 4 if quick else 16
    _run(
        [program, "run", "--backend", f"kind=openai_http,target={url},request_format={path}",
         "--tokenizer", f"kind=huggingface_auto,model={SAMPLE}",
         "--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=32",
         "--profile", "kind=concurrent,streams=4", "--constraint", f"kind=max_requests,count={count}",
         "--output", f"kind=json,path={saved}", "--output", "kind=console", "--disable-progress"],
        home,
    )  # fmt: skip
    (found,) = json.loads(saved.read_text())["benchmarks"]
    return {"asked": count, "benchmark": found}


def _run(command: Sequence[str], home: Path) -> None:
    """What it prints is shown. Raises Failed."""
    env = {**os.environ, **QUIET, "HOME": str(home), "COLUMNS": "160"}
    try:
        done = subprocess.run(
            command, env=env, cwd=home, capture_output=True, text=True, timeout=TOOL_S, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"it was not done within {TOOL_S:.0f} s: {(error.stdout or b'')[-800:]!r}") from None
    console().print(done.stdout, markup=False, highlight=False, soft_wrap=True)
    if done.returncode:
        raise Failed(f"it ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")


@contextmanager
def a_book(home: Path) -> Iterator[str]:
    """llama-benchy wants a book from somewhere: this repository's pages, from a server of our own."""
    shelf = home / "shelf"
    shelf.mkdir()
    pages = sorted(path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md"))
    (shelf / "book.txt").write_text("\n\n".join(page.read_text(encoding="utf-8") for page in pages))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(shelf)))
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/book.txt"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def measure(args: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    missing: list[str] = []
    with (
        tempfile.TemporaryDirectory() as directory, LocalSwarm(*COMMON) as swarm, a_book(Path(directory)) as book,
    ):  # fmt: skip
        swarm.start(spans(num_blocks(SAMPLE), 3))
        with LocalGateway(swarm.join) as gateway:
            model, url, home = gateway.ready["models"][0], gateway.url, Path(directory)
            for name, ask in {
                "llama-benchy": lambda at: benchy(at, url, model, book, home, args.quick),
                "guidellm, chats": lambda at: guidellm(at, url, "/v1/chat/completions", home, args.quick),
                "guidellm, completions": lambda at: guidellm(at, url, "/v1/completions", home, args.quick),
            }.items():
                if args.only not in name:
                    continue
                program = shutil.which(name.split(",")[0], path=os.pathsep.join([args.tools, os.defpath]))
                if program is None:
                    missing.append(name)
                    continue
                console().rule(name)
                try:
                    found[name] = summary(ask(program))
                except Failed as error:
                    found[name] = {"failed": str(error)}
    return {"tools": found, "missing": missing}


def summary(told: dict[str, Any]) -> dict[str, Any]:
    """What is kept of what a tool saved."""
    if "tests" in told:
        return {
            "complete": all(test["tg_throughput"] for test in told["tests"]),
            "rows": [
                {
                    "streams": test["concurrency"],
                    "prompt_tokens_s": _mean(test, "pp_throughput"),
                    "tokens_s": _mean(test, "tg_throughput"),
                    "ttft_ms": _mean(test, "e2e_ttft"),
                }
                for test in told["tests"]
            ],
        }
    metrics = told["benchmark"]["metrics"]
    totals = metrics["request_totals"]
    return {
        "complete": totals["successful"] == told["asked"] and not totals["errored"] and not totals["incomplete"],
        "requests": totals,
        "tokens_s": round(metrics["output_tokens_per_second"]["successful"]["mean"], 2),
        "output_tokens": metrics["output_token_count"]["successful"]["mean"],
        "ttft_ms_p50": round(metrics["time_to_first_token_ms"]["successful"]["median"], 2),
        "itl_ms_p50": round(metrics["inter_token_latency_ms"]["successful"]["median"], 2),
    }


def _mean(test: dict[str, Any], name: str) -> float | None:
    value = test.get(name)
    return round(value["mean"], 2) if isinstance(value, dict) else value


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    for name, row in found["tools"].items():
        yield Bar(f"{name}: all requests whole", int(row.get("complete", False)), 1)


def main() -> None:
    parser = arguments("Load generators of others against the gateway.")
    parser.add_argument("--tools", default=str(Path(sys.executable).parent), help="directory (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="tools with this in their name")
    args = parser.parse_args()
    found = measure(args)
    for name, row in found["tools"].items():
        console().print(f"{name}: {row}", markup=False)
    for name in found["missing"]:
        console().print(
            f"{name} is not in {args.tools}, and was left out; docs/performance-gateway.md says how to install it",
            markup=False,
        )
    conclude("conformance", list(bars(found)), found)


if __name__ == "__main__":
    main()
