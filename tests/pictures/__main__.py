"""`make dashboards`: pictures of all dashboards under a mixed load, for a person to look at.

There is no Grafana without containers: its own components, from npm, draw our JSON in Debian's Chromium from the
Prometheus of a native stack; two GPUs that are made up fill the panels of GPUs. Layout, units, legends and empty
panels are as in Grafana; heatmaps and tables are ours.
"""

import argparse
import asyncio
import functools
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

from bench.servers.stack import running_stack
from stack.host.ports import free_ports
from tests.pictures.gpus import exposed
from tests.pictures.load import put_load
from tests.support.browser import chromium
from tests.support.node import NODE
from tests.support.prometheus import MONITORING

ROOT = MONITORING.parent
PAGE = Path(__file__).parent / "node"
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
PATIENCE = 60  # seconds
LOADERS = [f"--loader:.{kind}=dataurl" for kind in ("svg", "woff2", "woff", "ttf")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="how long the load lasts")
    parser.add_argument("--prometheus", help="the address of one that runs already; no stack is started")
    parser.add_argument("--out", type=Path, default=ROOT / "test-output/dashboards", help="folder for the pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dashboards-") as folder:
        _bundle(Path(folder))
        if arguments.prometheus:
            asyncio.run(_draw(Path(folder), arguments.prometheus, arguments.seconds, arguments.out))
            return
        (port,) = free_ports(1)
        with running_stack() as stack, exposed(port), _load(stack.base):
            stack.also_scrape("app", f"127.0.0.1:{port}", "made-up-gpus")
            time.sleep(arguments.seconds)
            asyncio.run(_draw(Path(folder), stack.prometheus, arguments.seconds, arguments.out))


@contextmanager
def _load(base: str) -> Iterator[None]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(put_load, base, stop)
        try:
            yield
        finally:
            stop.set()
        load.result()


def _bundle(folder: Path) -> None:
    """The page, its script and the dashboards, as files below FOLDER."""
    subprocess.run([ROOT / "requirements/node.sh", sys.executable, PAGE], check=True, cwd=ROOT)
    command = [str(NODE), "node_modules/esbuild/bin/esbuild", "view.jsx", "--bundle", "--minify", "--jsx=automatic"]
    command += [f"--outfile={folder / 'view.js'}", '--define:process.env.NODE_ENV="production"']
    subprocess.run([*command, *LOADERS, "--log-level=error"], check=True, cwd=PAGE)
    for path in (PAGE / "index.html", *DASHBOARDS):
        shutil.copy(path, folder)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Not on the terminal."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


async def _draw(folder: Path, prometheus: str, seconds: float, out: Path) -> None:
    step = 5  # seconds, Prometheus' scrape interval
    end = int(time.time()) // step * step
    span = {"prometheus": prometheus, "from": end - int(seconds + 60) // step * step, "to": end, "step": step}
    with _served(folder) as base:
        async with chromium() as browser:
            page = await browser.new_page(viewport={"width": 1600, "height": 900})
            for path in DASHBOARDS:
                await page.goto(f"{base}/index.html?{urlencode({'dashboard': path.name, **span})}")
                drawn = await page.wait_for_function("window.drawn", timeout=PATIENCE * 1000)
                picture = out / f"{path.stem}.png"
                await page.screenshot(path=picture, full_page=True)
                print(f"{picture}: without data: {', '.join(await drawn.json_value()) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
