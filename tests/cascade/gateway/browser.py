"""A real browser without a screen, driven by its DevTools protocol: nothing but aiohttp is needed for it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab. ``said`` are its console's errors and its exceptions, ``asked`` the addresses that it fetched."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[str] = []
        self.asked: list[str] = []

    async def listen(self) -> None:
        """Takes answers and events until the tab is closed."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.said.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.said.append(told["params"]["entry"]["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command."""
        self._number += 1
        self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._waiting[self._number], 20)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def look(self, width: int, height: int, scheme: str) -> None:
        """As a screen of this size, light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def open(self, url: str) -> None:
        """Goes there."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What JavaScript says."""
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, expression: str, seconds: float = 15.0) -> Any:
        """Waits until JavaScript says something that counts as true."""
        ends = asyncio.get_running_loop().time() + seconds
        while not (found := await self.value(expression)):
            assert asyncio.get_running_loop().time() < ends, f"never: {expression}; {self.said}"
            await asyncio.sleep(0.2)
        return found

    async def key(self, name: str, text: str = "") -> None:
        """Presses a key."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, text=text,
                        windowsVirtualKeyCode={"Enter": 13, "Escape": 27}.get(name, 0))  # fmt: skip
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name)


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A new browser with one tab."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}")
        running = await asyncio.create_subprocess_exec(
            CHROMIUM, *flags, "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            ports = Path(folder, "DevToolsActivePort")
            for _ in range(200):
                if ports.is_file() and "\n" in ports.read_text():
                    break
                await asyncio.sleep(0.1)
            port = ports.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as listed:
                    tab = next(t for t in await listed.json() if t["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.ensure_future(page.listen())
                    for domain in ("Page", "Runtime", "Network", "Log"):
                        await page.call(f"{domain}.enable")
                    yield page
                    listening.cancel()
        finally:
            running.kill()
            await running.wait()
