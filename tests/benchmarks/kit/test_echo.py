from __future__ import annotations

from benchmarks.kit.echo import Echo


async def test_a_frame_comes_back_from_another_process():
    async with Echo(512) as echo:
        assert await echo.round_trip_s() > 0
        assert await echo.round_trip_s() > 0
