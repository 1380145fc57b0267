"""Documents over HTTP: what a sealed download costs against a plain file, how many a second, and what an upload adds.

    .venv/bin/python bench/documents.py [--rounds N] [--seconds S]

Needs clamd (scripts/install-engines clamd): documents of a given size get in by an upload. The plain file is served by
the same server (uvicorn) with Starlette's FileResponse, the usual way in Python. The client is a bare socket in a
process of its own; on two cores it takes its share of them, as a reverse proxy would.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pikepdf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from clamav import running_clamd  # noqa: E402
from document_service.scanner import Scanner  # noqa: E402
from running_service import Api, Service  # noqa: E402

SIZES = {"60 KB": 60_000, "500 KB": 500_000}
SCANNED = 10_000_000
CONNECTIONS = 16

STATIC = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
def serve(request): return FileResponse(sys.argv[1] + "/" + request.path_params["name"])
app = Starlette(routes=[Route("/{name}", serve)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


def pdf_of(size: int) -> bytes:
    """A one-page PDF of about ``size`` bytes that no compression shortens."""
    with pikepdf.new() as pdf:
        pdf.add_blank_page(page_size=(595, 842))
        pdf.Root.Padding = pdf.make_indirect(pikepdf.Stream(pdf, random.Random(size).randbytes(size - 700)))
        output = io.BytesIO()
        pdf.save(output)
        return output.getvalue()


def upload(api: Api, content: bytes) -> tuple[str, float]:
    """Send a file in pieces of 4 MB; its document, and the seconds from the first request to the verdict."""
    began = time.perf_counter()
    body = {
        "fileName": "scan.pdf",
        "contentType": "application/pdf",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "patientId": "bench",
        "category": "scanned_record",
        "title": "bench",
    }
    path = f"/v1/documents/uploads/{api.post('/v1/documents/uploads', json=body).json()['id']}"
    for start in range(0, len(content), 4 << 20):
        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
        api.patch(path, content=content[start : start + (4 << 20)], headers=headers).raise_for_status()
    api.post(f"{path}/finalize", headers={"Idempotency-Key": str(uuid.uuid4())}).raise_for_status()
    while (shown := api.get(path).json())["status"] == "scanning":
        time.sleep(0.01)
    if shown["status"] != "accepted":
        raise SystemExit(f"not accepted: {shown}")
    return shown["documentId"], time.perf_counter() - began


async def _get(url: str, connections: int, go_on: Callable[[int], bool]) -> list[float]:
    """Seconds of each GET over ``connections`` kept-alive sockets, for as long as ``go_on(number)`` says."""
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    taken: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
        while go_on(len(taken)):
            began = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(head.decode())
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))
            taken.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return taken


def latencies(url: str, rounds: int) -> list[float]:
    """Milliseconds of ``rounds`` GETs, one after the other, after a tenth more unmeasured."""
    taken = asyncio.run(_get(url, 1, lambda number: number < rounds + rounds // 10))
    return [1000 * seconds for seconds in taken[rounds // 10 :]]


def rate(url: str, seconds: float) -> float:
    """GETs a second over some connections at once."""
    end = time.perf_counter() + seconds
    return len(asyncio.run(_get(url, CONNECTIONS, lambda _: time.perf_counter() < end))) / seconds


def cpu_seconds(service: Service) -> float:
    """Processor time of the service and all that it runs, PostgreSQL included; it holds on a busy machine too."""
    ticks, wanted = 0, {service.pid}
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                processes[int(entry.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    while found := {pid for pid, (parent, _) in processes.items() if parent in wanted and pid not in wanted}:
        wanted |= found
    ticks = sum(processes[pid][1] for pid in wanted if pid in processes)
    return ticks / os.sysconf("SC_CLK_TCK")


def downloads(service: Service, api: Api, folder: Path, rounds: int, seconds: float) -> None:
    port = 20_000 + os.getpid() % 20_000
    plain = subprocess.Popen([sys.executable, "-c", STATIC, str(folder), str(port)])
    try:
        print(
            f"{'':18}{'plain p50 ms':>14}{'signed p50 ms':>15}{'ratio':>7}{'plain/s':>10}{'signed/s':>10}{'CPU ms':>8}"
        )
        with ProcessPoolExecutor(1) as client:
            for name, size in SIZES.items():
                content = pdf_of(size)
                (folder / str(size)).write_bytes(content)
                document, _ = upload(api, content)
                link = api.post(f"/v1/documents/{document}/download-url").json()["url"]
                urls = [f"http://127.0.0.1:{port}/{size}", service.url + link]
                _until_served(urls[0])
                bare, signed = (statistics.median(client.submit(latencies, url, rounds).result()) for url in urls)
                rates = [client.submit(rate, urls[0], seconds).result()]
                before = cpu_seconds(service)
                rates.append(client.submit(rate, urls[1], seconds).result())
                each = 1000 * (cpu_seconds(service) - before) / (rates[1] * seconds)
                print(f"{name:18}{bare:14.2f}{signed:15.2f}{signed / bare:7.1f}", end="")
                print(f"{rates[0]:10.0f}{rates[1]:10.0f}{each:8.2f}")
    finally:
        plain.terminate()
        plain.wait()


def _until_served(url: str) -> None:
    for _ in range(200):
        try:
            httpx2.get(url)
            return
        except httpx2.TransportError:
            time.sleep(0.05)


async def _scan_alone(clamd: str, content: bytes, rounds: int) -> float:
    scanner = Scanner(clamd)
    scanner.start()
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        verdict = await scanner.scan(content, "application/pdf", "a.pdf")
        taken.append(time.perf_counter() - began)
        if verdict.state != "accepted":
            raise SystemExit(verdict)
    await scanner.stop()
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clamd").mkdir()
        (folder / "plain").mkdir()
        with running_clamd(folder / "clamd") as clamd:
            service = Service(folder / "data", DOCUMENT_SERVICE_CLAMD=clamd.address).start("--workers", "1")
            try:
                tenant = service.create_tenant("http://127.0.0.1:9/none")
                with service.caller(tenant) as api:
                    downloads(service, api, folder / "plain", options.rounds, options.seconds)
                    content = pdf_of(SCANNED)
                    uploads = [upload(api, content)[1] for _ in range(6)][1:]
                    alone = asyncio.run(_scan_alone(clamd.address, content, 5))
                    whole = statistics.median(uploads)
                    print(
                        f"upload 10 MB: scan {1000 * alone:.0f} ms, whole {1000 * whole:.0f} ms, {whole / alone:.1f} ×"
                    )
            finally:
                service.stop()


if __name__ == "__main__":
    main()
