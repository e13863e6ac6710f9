"""A peer is lost in mid-stream: the reader gets the same text, and only the metrics tell."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gateway.house import served_house
from tests.support.hash_engine import undisturbed

WISH = {"prompt": "def fib_", "max_tokens": 60, "temperature": 0, "ignore_eos": True, "stream": True}


async def test_a_lost_peer_changes_no_letter(tmp_path: Path):
    async with served_house(tmp_path, spans=[(0, 3), (3, 6), (3, 6)]) as there:
        for peer in there.swarm.peers:
            peer.engine.step_s = 0.005
        text, heard = "", 0
        async with there.http.stream("POST", "/v1/completions", json=WISH) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
                    heard += 1
                if heard == 10 and line:
                    used = next(n for n in (1, 2) if len(there.swarm.peers[n].seats))
                    await there.swarm.stop(used)
                    heard += 1
        assert text == there.codec.decode(undisturbed(there.codec.encode("def fib_"), 60))
        metrics = (await there.http.get("/metrics")).text
        assert "shoal_gateway_failovers_total 1.0" in metrics
        assert "shoal_gateway_route_rebuilds_total 1.0" in metrics
        assert 'shoal_gateway_answers_total{model="other",reason="length"} 1.0' in metrics
