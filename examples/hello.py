"""Generates from Python through a running swarm.

python -m peer.serve                      # in another terminal; copy "join" from the line it prints
python -m examples.hello /ip4/127.0.0.1/tcp/…/p2p/…
"""

from __future__ import annotations

import sys

from client import Client


def main() -> None:
    with Client(swarm=sys.argv[1:] or None) as swarm:  # None: the addresses in SHOAL_SWARM
        # One prompt, streamed as it comes.
        for piece in swarm.stream("class Stack:\n", max_new_tokens=48):
            print(piece.text, end="", flush=True)
        print("\n---")

        # Several prompts are Sessions side by side; each keeps its own text.
        prompts = ["def fib(n):\n", "import os\n", "for i in range("]
        for prompt, result in zip(
            prompts, swarm.generate(prompts, max_new_tokens=24, temperature=0.7, seed=1), strict=True
        ):
            print(f"{prompt!r} {result.text!r}\n  {result.tokens_per_s:.1f} tokens/s over {result.route_text}")


if __name__ == "__main__":
    main()
