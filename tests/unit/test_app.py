"""The running bridge: what it listens on, when it says that it is ready, how it ends."""

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import event
from tests.unit.bankid import serving
from tests.unit.certificates import Authority
from tests.unit.settings import BANKID, credentials, valid, written
from tests.unit.slapd import BASE, EVA, ORGANISERS, PASSWORD, SERVICE, SERVICE_PASSWORD, running

from sluss import app
from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import ConfigError, NotEnrolled
from sluss.store.database import upgrade

SLUSS = (sys.executable, "-m", "sluss.cli")
MAX_RSS = 90 * 2**20


@pytest.fixture
def config(tmp_path):
    """A settings file and secrets, with a database."""
    settings = valid(tmp_path)
    upgrade(settings["database"])
    credentials(tmp_path)
    return settings, tmp_path


def loaded(config):
    settings, folder = config
    found = load_settings(written(folder, settings))
    return found, load_credentials(found, {"CREDENTIALS_DIRECTORY": str(folder / "credentials")})


async def get(port: int, path: str, **headers) -> tuple[int, str, dict]:
    async with aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{port}{path}"
        async with client.get(url, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text(), dict(response.headers)


# In this process


async def test_bridge_without_a_gate_is_alive_ready_and_shows_its_pages(config):
    async with app.running(*loaded(config)) as bridge:
        status, text, _ = await get(bridge.internal_port, "/healthz")
        assert (status, text) == (200, "alive\n")
        status, text, _ = await get(bridge.internal_port, "/readyz")
        assert (status, json.loads(text)) == (200, {"database": True})
        status, text, headers = await get(bridge.portal_port, "/sign-in", Host="portal.sluss.test")
        assert (status, "Demo Ltd" in text) == (200, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_bridge_with_bankid_asks_the_service_that_is_set_with_its_own_certificate(config, tmp_path):
    async with serving(tmp_path / "bank") as service:
        config[0]["bankid"] = BANKID | {"url": service.url, "authority": str(service.authority)}
        for name, file in (("bankid-certificate", service.certificate), ("bankid-key", service.key)):
            (tmp_path / "credentials" / name).write_bytes(file.read_bytes())
        async with app.running(*loaded(config)) as bridge:
            await bridge.services.bankid.start("link", "browser", Purpose.VIEW, "sv", "192.0.2.7")
            assert bridge.services.bankid.qr_code("link", "browser", Purpose.VIEW)
            assert Method.BANKID in await bridge.services.participation.methods("link")
        assert service.double.last.cancelled, "orders are taken back when the bridge ends"


async def test_bridge_with_a_directory_asks_the_one_that_is_set(config, tmp_path):
    with running(tmp_path / "slapd") as slapd:
        config[0]["ldap"] = {
            "kind": "openldap",
            "servers": [slapd.starttls],
            "authority": str(slapd.authority.file),
            "account": SERVICE,
            "base": BASE,
            "organisers": ORGANISERS,
        }
        (tmp_path / "credentials" / "ldap-password").write_text(SERVICE_PASSWORD)
        async with app.running(*loaded(config)) as bridge:
            with pytest.raises(NotEnrolled):
                await bridge.services.organisers.password("browser", EVA, PASSWORD, "192.0.2.7")
            assert bridge.services.directory.there


def test_library_for_directories_is_loaded_where_there_is_one_alone():
    said = "import sys, sluss.app, sluss.web; print('ldap3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "False\n"


async def test_health_and_metrics_are_on_the_internal_listener_alone(config):
    async with app.running(*loaded(config)) as bridge:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await get(bridge.internal_port, path))[0] == 200
            status, text, _ = await get(bridge.portal_port, path, Host="portal.sluss.test")
            assert status >= 300
            assert "alive" not in text
        for path in ("/", "/sign-in", "/i/x", "/keys/jwks.json"):
            assert (await get(bridge.internal_port, path))[0] == 404
        assert "sluss_gate_connected 0.0" in (await get(bridge.internal_port, "/metrics"))[1]


async def test_end_of_the_certificate_is_a_metric_also_of_one_that_was_renewed(config, tmp_path):
    certificate, _ = Authority(tmp_path).issue("portal.sluss.test")
    config[0]["certificate"] = str(certificate)
    async with app.running(*loaded(config)) as bridge:

        async def ends_in() -> float | None:
            found = re.search(
                r"^sluss_certificate_expires (\S+)", (await get(bridge.internal_port, "/metrics"))[1], re.MULTILINE
            )
            return found and (float(found[1]) - time.time()) / 3600

        assert 23 < await ends_in() <= 24
        Authority(tmp_path).issue("portal.sluss.test", hours=-2)
        assert -3 < await ends_in() <= -2
        certificate.unlink()
        assert await ends_in() is None


async def test_public_keys_and_no_private_ones_are_served(config):
    async with app.running(*loaded(config)) as bridge:
        status, text, _ = await get(bridge.portal_port, "/keys/jwks.json", Host="portal.sluss.test")
        (key,) = json.loads(text)["keys"]
    assert status == 200
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg", "key_ops"}


async def test_bridge_whose_gate_is_away_is_alive_and_not_ready(config):
    config[0]["gate"]["enabled"] = True
    async with app.running(*loaded(config)) as bridge:
        assert (await get(bridge.internal_port, "/healthz"))[0] == 200
        status, text, _ = await get(bridge.internal_port, "/readyz")
        assert (status, json.loads(text)) == (503, {"database": True, "gate": False})


async def test_bridge_whose_database_is_locked_is_not_ready(config):
    async with app.running(*loaded(config)) as bridge:
        assert (await get(bridge.internal_port, "/readyz"))[0] == 200
        bridge.store.engine.dispose()
        event.listen(bridge.store.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
        other = sqlite3.connect(bridge.store.engine.url.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, text, _ = await get(bridge.internal_port, "/readyz")
        other.close()
        assert (status, json.loads(text)) == (503, {"database": False})
        assert (await get(bridge.internal_port, "/readyz"))[0] == 200


@pytest.mark.parametrize("listener", ["portal", "internal"])
async def test_port_in_use_is_one_line(config, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        config[0]["listen"][listener] = endpoint
        with pytest.raises(ConfigError, match=f"listen: {endpoint}: ") as error:
            async with app.running(*loaded(config)):
                pass
    assert "\n" not in str(error.value)


async def test_missing_schema_is_one_line(config):
    config[0]["database"] = f"sqlite:///{config[1]}/empty.db"
    with pytest.raises(ConfigError, match="run sluss database upgrade"):
        async with app.running(*loaded(config)):
            pass


async def test_bridge_can_be_opened_again_after_it_was_closed(config):
    for _ in range(2):
        async with app.running(*loaded(config)) as bridge:
            ports = {bridge.portal_port, bridge.internal_port}
        for port in ports:
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(port, "/healthz")


# As systemd runs it


@asynccontextmanager
async def served(config, tmp_path):
    """`sluss serve`; yields the process and what it told systemd, as it comes."""
    settings, folder = config
    path = written(folder, settings)
    told: asyncio.Queue[str] = asyncio.Queue()
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(notify, lambda: [told.put_nowait(line) for line in notify.recv(4096).decode().splitlines()])
    # Test tools bring `rich`, which structlog loads where it is; a bridge's own environment has none.
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "rich.py").write_text("raise ImportError")
    environ = os.environ | {
        "PYTHONPATH": f"{tmp_path / 'absent'}:{os.environ.get('PYTHONPATH', '')}",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
    }
    process = await asyncio.create_subprocess_exec(
        *SLUSS, "--config", path, "serve", env=environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process, told
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        loop.remove_reader(notify)
        notify.close()


async def until(told, line: str) -> list[str]:
    """Everything told up to `line`."""
    seen = []
    async with asyncio.timeout(30):
        while line not in seen:
            seen.append(await told.get())
    return seen


async def logged(process, event: bytes) -> bytes:
    async with asyncio.timeout(30):
        while event not in (line := await process.stderr.readline()):
            assert line, "the bridge ended"
    return line


async def ended(process) -> float:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await process.communicate()
    return time.monotonic() - began


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def port_in(line: bytes, name: str) -> int:
    return int(line.decode().split(f"{name}=")[1].split()[0])


async def test_serve_is_ready_at_once_without_a_gate_small_and_ends_when_told(config, tmp_path):
    async with served(config, tmp_path) as (process, told):
        line = await logged(process, b"event=listening")
        assert "READY=1" in await until(told, "READY=1")
        assert rss(process.pid) < MAX_RSS
        assert (await get(port_in(line, "internal"), "/readyz"))[0] == 200
        assert (await get(port_in(line, "portal"), "/sign-in", Host="portal.sluss.test"))[0] == 200
        async with aiohttp.ClientSession() as client:  # a browser that keeps its connection
            async with client.get(f"http://127.0.0.1:{port_in(line, 'internal')}/healthz") as response:
                await response.read()
            assert await ended(process) < 5
        assert process.returncode == 0
        assert "STOPPING=1" in await until(told, "STOPPING=1")


FORM = (
    b"POST /i/secret-link/verify HTTP/1.1\r\nHost: portal.sluss.test\r\nContent-Type: application/x-www-form-urlencoded"
)
UNREADABLE = [
    b"GET /i/secret-link HTTP/9.9\r\n\r\n",
    b"GET /i/secret-link \x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /i/" + b"secret-link" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::secret-link/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: portal.sluss.test\r\nCookie: __Host-sluss=secret-session\x01\r\n\r\n",
    b"POST /i/secret-link/code HTTP/1.1\r\nHost: portal.sluss.test\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
    FORM + b"; charset=secret\r\nContent-Length: 8\r\n\r\na=secret",
    FORM + b"\r\nContent-Length: 8\r\n\r\nsecret=\xff",
]


async def test_request_that_cannot_be_read_is_refused_and_not_in_the_log(config, tmp_path):
    async with served(config, tmp_path) as (process, _):
        port = port_in(await logged(process, b"event=listening"), "portal")
        for request in UNREADABLE:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            assert b" 400 " in (await asyncio.wait_for(reader.readline(), 10)), request[:40]
            writer.close()
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 10)
        assert b"Error handling request from 127.0.0.1: BadStatusLine" in log
        assert b"secret" not in log


async def test_serve_is_not_ready_while_nothing_answers_for_prosody(config, tmp_path):
    config[0]["gate"]["enabled"] = True
    with socket.create_server(("127.0.0.1", 0)) as closed:
        config[0]["gate"]["port"] = closed.getsockname()[1]
    async with served(config, tmp_path) as (process, told):
        line = await logged(process, b"event=listening")
        await logged(process, b"event=gate_not_connected")
        assert (await get(port_in(line, "internal"), "/healthz"))[0] == 200
        assert (await get(port_in(line, "internal"), "/readyz"))[0] == 503
        assert await ended(process) < 5
        assert process.returncode == 0
        assert "READY=1" not in await until(told, "STOPPING=1")


async def test_serve_that_cannot_listen_says_one_line_and_ends_with_78(config, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config[0]["listen"]["portal"] = f"127.0.0.1:{taken.getsockname()[1]}"
        async with served(config, tmp_path) as (process, told):
            _, errors = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == os.EX_CONFIG
            lines = [line for line in errors.decode().splitlines() if line.startswith("sluss: ")]
            assert len(lines) == 1
            assert "address already in use" in lines[0].lower()
            assert "Traceback" not in errors.decode()
            assert told.empty()
