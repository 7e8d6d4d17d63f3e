"""The provider models against every fault, by the real SDKs on both transports: what is retried and known of the cost."""

import asyncio
import resource
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.model import ModelError, Request
from cascade.models.openai import OpenAIModel
from judges import Prompt, Usage

from .process import FaultServer
from .replies import COUNTED, FAULTS, LOST, REFUSALS, Plan

BOTH = pytest.mark.parametrize("provider", ["openai", "anthropic"])
KINDS: dict[str, Any] = {"openai": OpenAIModel, "anthropic": AnthropicModel}
SLOW = ("drip", "hang")
COUNTS = Usage(42, 9)  # of the run number 2, as replies.read counts


class Missing(httpx2.AsyncClient):
    """What the SDKs have in the place of their aiohttp client where that is not installed."""

    def __init__(self, **_: object) -> None:
        raise RuntimeError("aiohttp is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """A server with a model for each fault, named after it, and a healthy one."""
    with FaultServer() as running:
        running.plan({"healthy": Plan(), **{fault: Plan(faults=(fault,)) for fault in FAULTS}})
        yield running


@pytest.fixture(params=["aiohttp", "httpcore"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The SDKs' transport; without the extra they have only their default one."""
    if request.param == "httpcore":
        for sdk in (openai, anthropic):
            monkeypatch.setattr(sdk, "DefaultAioHttpClient", Missing)
    return str(request.param)


async def ask(server: FaultServer, provider: str, name: str, **options: Any) -> Usage | ModelError:
    """The usage of one answer, or its fault; then the server is healthy for the same client."""
    options = {"timeout_s": 0.3 if name in SLOW else 10, **options}
    model = KINDS[provider](name=name, model=name, api_key="x", base_url=server.base_url(name, provider), **options)
    try:
        (answer,) = await model.answer(Prompt.of("run:2 what is it?"), Request())
        assert answer.text == Plan.answer
        assert answer.usage is not None
        return answer.usage
    except ModelError as error:
        return error
    finally:
        await model.close()


@BOTH
@pytest.mark.usefixtures("transport")
def test_every_fault_is_a_model_error(server: FaultServer, provider: str) -> None:
    """Each fault is a retryable ModelError whose usage is nothing, known or unknown as the server billed it."""

    async def go() -> dict[str, Usage | ModelError]:
        return dict(zip(FAULTS, await asyncio.gather(*(ask(server, provider, f) for f in FAULTS)), strict=True))

    for fault, error in asyncio.run(go()).items():
        assert isinstance(error, ModelError), fault
        assert error.retryable, fault
        assert error.status == REFUSALS.get(fault), fault
        if fault in REFUSALS or fault == "refused":
            assert error.usage == Usage(), fault
        elif fault in COUNTED:
            assert error.usage == COUNTS, fault
        else:
            assert error.usage is None, fault
        if fault in LOST:
            assert any(word in str(error) for word in ("billed", "malformed", "ClientResponseError")), str(error)


@BOTH
@pytest.mark.usefixtures("transport")
def test_a_healthy_answer(server: FaultServer, provider: str) -> None:
    """The same server and the same client, without a fault."""
    assert asyncio.run(ask(server, provider, "healthy")) == COUNTS


@BOTH
@pytest.mark.usefixtures("transport")
def test_memory_is_bounded(server: FaultServer, provider: str) -> None:
    """Forty bodies of 20 MB at once, packed and plain, with a limit of 1 MiB: 800 MB never stand in memory."""

    async def go() -> None:
        limit = {"max_body_bytes": 2**20}
        await ask(server, provider, "bomb", **limit)  # imports aside
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asked = [ask(server, provider, fault, **limit) for fault in ("bomb", "huge") for _ in range(20)]
        assert all(isinstance(found, ModelError) for found in await asyncio.gather(*asked))
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100

    asyncio.run(go())
