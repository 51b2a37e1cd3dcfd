"""The page `/virnuc`, as a person sees it in a browser."""

import asyncio
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from virnuc_dask import run
from virnuc_dask.config import load_settings
from virnuc_dask.run_context import RunContext
from virnuc_dask.stages.receipt import Receipt

DEMO = Path(__file__).parents[1] / "data/demo.fasta.gz"
WALK = """
function walk(node, see) {
  for (const child of node.childNodes) {
    if (child.nodeType === 1 && ["STYLE", "SCRIPT"].includes(child.tagName)) continue;
    see(child);
    if (child.shadowRoot) walk(child.shadowRoot, see);
    walk(child, see);
  }
}
"""
# bokeh's models lie in shadow roots, which chromium --dump-dom leaves out.
TEXT = f"{WALK}; var t = ''; walk(document, n => {{ if (n.nodeType === 3) t += n.data + ' ' }}); t"
TAGS = f"{WALK}; var n = []; walk(document, e => n.push(e.tagName)); n.join(' ')"


class Browser:
    """A headless Chromium, driven by its DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        await self._socket.write_message(json.dumps(message))
        while True:
            answer = json.loads(await self._socket.read_message())
            if answer.get("id") == self._calls:
                return answer["result"]

    async def evaluate(self, script: str) -> str:
        answer = await self.call("Runtime.evaluate", expression=script)
        return answer["result"].get("value", "")

    async def until(self, wanted: str) -> None:
        """Wait until a person can read ``wanted``."""
        deadline = time.monotonic() + 90
        while wanted not in (text := re.sub(r"\s+", " ", await self.evaluate(TEXT))):
            assert time.monotonic() < deadline, f"no {wanted!r} in {text!r}"
            await asyncio.sleep(0.2)


@asynccontextmanager
async def chromium(program: str, profile: Path) -> AsyncIterator[Browser]:
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    process = subprocess.Popen(
        [program, *options, f"--user-data-dir={profile}", "--window-size=1500,1000", "about:blank"],
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not port_file.exists():
                await asyncio.sleep(0.1)
        host = f"127.0.0.1:{port_file.read_text().split()[0]}"
        answer = await AsyncHTTPClient().fetch(f"http://{host}/json")
        (page,) = (page for page in json.loads(answer.body) if page["type"] == "page")
        socket = await websocket_connect(page["webSocketDebuggerUrl"])
        try:
            yield Browser(socket)
        finally:
            process.terminate()
            socket.close()
            with suppress(TimeoutError):  # until the other side has closed, too
                async with asyncio.timeout(5):
                    while await socket.read_message() is not None:
                        pass
    finally:
        process.terminate()
        process.wait()


async def _watch_a_run(browser: Browser, client: Client, let_it_end: Callable[[], None]) -> None:
    page = client.dashboard_link.replace("status", "virnuc")
    async with asyncio.timeout(60):  # until the run has put it there
        while (await AsyncHTTPClient().fetch(page, raise_error=False)).code != 200:
            await asyncio.sleep(0.2)
    await browser.call("Page.navigate", url=client.dashboard_link)
    await browser.until("Virnuc")
    assert await browser.evaluate("document.querySelector('a[href=virnuc]').href") == page
    await browser.call("Page.navigate", url=page)
    await browser.until("<video>.fasta.gz → ")
    await browser.until("persistent, both encoders in memory")
    await browser.until("model set mini loaded on worker")
    await browser.until("genes or frames a second")
    tags = (await browser.evaluate(TAGS)).split()
    assert tags.count("CANVAS") >= 2, "the charts"
    assert "VIDEO" not in tags, "names are escaped"
    await browser.until("1 of 1 partitions done")
    let_it_end()
    await browser.until("ended at")


def test_a_person_sees_a_run_in_a_browser(client, tmp_path, monkeypatch):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    demo = tmp_path / "<video>.fasta.gz"
    shutil.copy(DEMO, demo)
    seen, tell = threading.Event(), RunContext.tell_receipt

    def tell_and_wait(context: RunContext, receipt: Receipt) -> None:
        tell(context, receipt)
        seen.wait(200)

    monkeypatch.setattr(RunContext, "tell_receipt", tell_and_wait)
    settings = load_settings(flags={"cluster.threads": 1})
    thread = threading.Thread(
        target=run, args=(demo, tmp_path / "out"), kwargs={"client": client, "settings": settings}
    )

    async def visit() -> None:
        async with chromium(program, tmp_path / "profile") as browser:
            await _watch_a_run(browser, client, seen.set)

    thread.start()
    try:
        asyncio.run(visit())
    finally:
        seen.set()
        thread.join()
    assert (tmp_path / "out/run.json").is_file()
