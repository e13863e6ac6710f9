"""schemathesis, which nobody here wrote, against a real server: what the OpenAPI document says is what happens.

Of every operation it draws requests that follow the document and requests that break it. No answer is a 500, every
answer has the documented form, and nothing that breaks the document is let in. (Not asked for: that all that follows
it is accepted. Ranges depend on the model; they are told in words.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from gateway.config import GatewayConfig
from tests.gateway.house import House, house, served_house
from tests.support.hash_engine import MODEL

EXAMPLES = 8  # of each operation and mode
TEXT = ("/v1/completions", "/v1/chat/completions", "/v2/models/{name}/generate", "/v2/models/{name}/generate_stream")
schemathesis.checks.load_all_checks()
NOT_ASKED = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]
BOUNDED = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def test_what_the_document_says_is_what_happens(tmp_path: Path):
    async with served_house(tmp_path, config=GatewayConfig(default_tokens=8)) as there:
        statuses = await asyncio.to_thread(_draw, there.url)
        assert there.desk.gate.running == 0
        await there.swarm.empty()
    answered = {path for (path, status), _ in statuses.items() if status == 200}
    assert set(TEXT) <= answered, "requests were drawn that make text"


def _draw(url: str) -> Counter[tuple[str, int]]:
    statuses: Counter[tuple[str, int]] = Counter()
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                _asker(operation.as_strategy(generation_mode=mode), mode, statuses)()
            except Unsatisfiable:  # a GET without parameters cannot be asked wrongly
                assert mode.is_negative and operation.method == "get"
    return statuses


def _asker(cases: Any, mode: GenerationMode, statuses: Counter[tuple[str, int]]) -> Callable[[], None]:
    @BOUNDED
    @given(case=cases)
    def ask(case: Any) -> None:
        if mode.is_positive:  # no drawn name is ever that of the model
            parameters = case.path_parameters or {}
            parameters.update({k: v for k, v in _NAMES.items() if k in parameters})
            if isinstance(case.body, dict):
                case.body.pop("model", None)
        answer = case.call()
        statuses[case.operation.path, answer.status_code] += 1
        case.validate_response(answer, excluded_checks=NOT_ASKED)

    return ask


_NAMES = {"name": MODEL.name, "version": MODEL.fingerprint}
TENSOR = '{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["x"]}'
JSON = {"content-type": "application/json"}
HALF = "\\ud800"  # half a surrogate pair, as JSON lets one write it


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", f'{{"prompt": "x", "model": "{HALF}"}}'),
        ("/v1/completions", f'{{"prompt": "{HALF}"}}'),
        ("/v1/completions", f'{{"prompt": "x", "stop": "{HALF}", "max_tokens": 1, "n": 0}}'),
        ("/v1/completions", f'{{"prompt": "x", "logit_bias": {{"{HALF}": "x"}}}}'),
        ("/v1/completions", '{"prompt": "x", "temperature": NaN}'),
        ("/v1/completions", '{"prompt": "x", "temperature": 1e999}'),
        ("/v1/completions", '{"prompt": "x", "max_tokens": 1e999}'),
        ("/v1/completions", '{"prompt": "x", "max_tokens": true}'),
        ("/v1/completions", '{"prompt": "x", "max_tokens": "5"}'),
        ("/v1/completions", '{"prompt": "x", "seed": ' + "9" * 5000 + "}"),
        ("/v1/completions", "[" * 100_000),
        ("/v1/completions", '{"prompt": ' * 50_000),
        ("/v1/chat/completions", f'{{"messages": [{{"role": "{HALF}", "content": "x"}}]}}'),
        ("/tokenize", f'{{"prompt": "{HALF}"}}'),
        (f"/v2/models/{MODEL.name}/infer", f'{{"id": "{HALF}", "inputs": [{{"name": "{HALF}"}}]}}'),
        (f"/v2/models/{MODEL.name}/infer", f'{{"id": "{HALF}", "inputs": [{TENSOR}]}}'),
        (f"/v2/models/{MODEL.name}/generate", f'{{"text_input": "x", "{HALF}": {{}}, "max_tokens": "{HALF}"}}'),
    ],
    ids=lambda value: value[:60],
)  # fmt: skip
async def test_what_is_made_to_break_it_is_refused(there: House, path: str, body: str):
    answer = await there.http.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 404), answer.text[:300]
    assert answer.json()["error"]
    assert there.desk.gate.running == 0
