"""SMS through a real HTTP gateway and through gammu-smsd's command: filled in once, no code in a command line."""

import asyncio
import base64
import json
import os
import string
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sluss.delivery import sms, texts
from sluss.delivery.mail import RefusedForGood
from sluss.delivery.sms import GammuSms, HttpSms
from sluss.domain.errors import DeliveryFailed

TO, TEXT = "+46701740605", texts.code("sv", "123456", "portal.sluss.test")


class Gateway:
    """An operator's HTTP interface."""

    def __init__(self) -> None:
        self.requests, self.status, self.wait = [], 202, None
        self.headers = {}

    async def take(self, request):
        self.requests.append((request.method, request.path, dict(request.headers), await request.read()))
        if self.wait:
            await self.wait.wait()
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def gateway():
    found = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", found.take)
    server = TestServer(app)
    await server.start_server()
    found.url = str(server.make_url("/sms"))
    async with aiohttp.ClientSession() as client:
        found.client = client
        yield found
        if found.wait:
            found.wait.set()
    await server.close()


def sender(gateway, **options) -> HttpSms:
    return HttpSms(gateway.client, options.pop("url", gateway.url), **options)


async def test_json_is_filled_in(gateway):
    await sender(gateway, json={"to": "{to}", "text": "{text}", "from": "Sluss"}).send(TO, TEXT)
    ((method, path, headers, body),) = gateway.requests
    assert (method, path, headers["Content-Type"]) == ("POST", "/sms", "application/json")
    assert json.loads(body) == {"to": TO, "text": TEXT, "from": "Sluss"}


async def test_form_is_filled_in_and_encoded(gateway):
    await sender(gateway, method="PUT", form={"to": "{to}", "message": "Kod: {text} & mer"}).send(TO, TEXT)
    ((method, _, headers, body),) = gateway.requests
    assert (method, headers["Content-Type"]) == ("PUT", "application/x-www-form-urlencoded")
    assert dict(parse_qsl(body.decode())) == {"to": TO, "message": f"Kod: {TEXT} & mer"}


async def test_password_goes_in_basic_authentication_or_where_the_header_says(gateway):
    fields = {"to": "{to}", "text": "{text}"}
    await sender(gateway, username="sluss", password="pass wörd €", json=fields).send(TO, TEXT)
    await sender(gateway, headers={"X-Key": "Key {password}"}, password="secret", json=fields).send(TO, TEXT)
    first, second = (headers for _, _, headers, _ in gateway.requests)
    assert base64.b64decode(first["Authorization"].removeprefix("Basic ")) == "sluss:pass wörd €".encode()
    assert second["X-Key"] == "Key secret"
    assert "Authorization" not in second


async def test_placeholder_in_a_text_is_not_filled_in_again(gateway):
    await sender(gateway, json={"a": "{text}{to}", "b": "{text}"}, password="secret").send("{text}", "{to}{password}")
    assert json.loads(gateway.requests[0][3]) == {"a": "{to}{password}{text}", "b": "{to}{password}"}


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_success_is_handed_over(gateway, status):
    gateway.status = status
    await sender(gateway, json={"to": "{to}"}).send(TO, TEXT)


async def failure(to_try) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as failed:
        await to_try.send(TO, TEXT)
    for secret in (TO, TO[3:], "123456", "secret", "127.0.0.1"):
        assert secret not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_refused_message_is_not_tried_again(gateway, status):
    gateway.status = status
    assert isinstance(await failure(sender(gateway, json={"to": "{to}"})), RefusedForGood)


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504])
async def test_trouble_that_passes_is_tried_again(gateway, status):
    gateway.status = status
    assert not isinstance(await failure(sender(gateway, json={"to": "{to}"})), RefusedForGood)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_number_and_code_follow_no_redirect(gateway, status):
    gateway.status, gateway.headers = status, {"Location": gateway.url + "/elsewhere"}
    assert not isinstance(await failure(sender(gateway, json={"to": "{to}"})), RefusedForGood)
    assert [path for _, path, _, _ in gateway.requests] == ["/sms"]


async def test_gateway_that_does_not_answer_is_tried_again(gateway, monkeypatch):
    monkeypatch.setattr(sms, "_TIMEOUT_SECONDS", 0.05)
    gateway.wait = asyncio.Event()
    assert not isinstance(await failure(sender(gateway, json={"to": "{to}"})), RefusedForGood)


async def test_gateway_that_is_not_there_is_tried_again(gateway):
    for url in ("http://127.0.0.1:9/sms", "https://127.0.0.1:9/sms", gateway.url.replace("http:", "https:")):
        assert not isinstance(await failure(sender(gateway, url=url, json={"to": "{to}"})), RefusedForGood)


# gammu-smsd


def inject(tmp_path, ending: str = "exit 0"):
    """A double of gammu-smsd-inject: writes down its arguments and its standard input."""
    command = tmp_path / "gammu-smsd-inject"
    command.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{tmp_path}/arguments\necho $LC_ALL >{tmp_path}/locale\n"
        f"cat >{tmp_path}/input\n{ending}\n"
    )
    command.chmod(0o755)
    return GammuSms(command, tmp_path / "gammu-smsdrc")


async def test_modem_gets_the_text_by_standard_input_and_not_in_its_arguments(tmp_path):
    await inject(tmp_path).send(TO, TEXT)
    assert (tmp_path / "arguments").read_text().split("\n")[:-1] == [
        *("-c", f"{tmp_path}/gammu-smsdrc", "TEXT", TO, "-len", "400"),
    ]
    assert (tmp_path / "input").read_text() == TEXT
    assert (tmp_path / "locale").read_text() == "C.UTF-8\n"


async def test_modem_command_that_fails_is_tried_again(tmp_path):
    assert "ended with 3" in str(await failure(inject(tmp_path, "exit 3")))


async def test_modem_command_that_is_missing_is_tried_again(tmp_path):
    assert "No such file" in str(await failure(GammuSms(tmp_path / "missing", tmp_path / "rc")))


async def test_modem_command_that_hangs_is_ended_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sms, "_TIMEOUT_SECONDS", 0.2)
    pid_file = tmp_path / "pid"
    assert "in time" in str(await failure(inject(tmp_path, f"echo $$ >{pid_file}; exec sleep 60")))
    if pid_file.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)


def test_sms_binds_its_code_to_our_portal():
    assert TEXT.splitlines()[-1] == "@portal.sluss.test #123456"
    assert texts.code("en", "123456", "portal.sluss.test").startswith("123456 ")


# The basic alphabet of GSM 03.38, as far as texts need it: with any other character an SMS has 70, not 160
GSM = set(string.ascii_letters + string.digits + " \n@#.,:;!?\"'()%&*+-/<=>_£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà")


@pytest.mark.parametrize("locale", ["sv", "en"])
def test_code_is_one_sms(locale):
    text = texts.code(locale, "123456", "portal.sluss.test")
    assert len(text) <= 160
    assert set(text) <= GSM
