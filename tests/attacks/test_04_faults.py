"""Invariant 4: no room on the disk, a wrong clock, no names, certificates that have expired: a plain no to whoever is
new, who is inside stays, and when it is over nobody has to lend a hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from tests.attacks.people import Browser, Insider, Meeting, Person, Site, health, on_host, ready
from tests.xmpp import Client, Refused

AGAIN = 60  # seconds within which what could not be sent is sent


def stays(site: Site, person: Person) -> list[tuple[float, float | None, bool]]:
    """When somebody came and left, and whether the end was seen."""
    return [tuple(times) for name, *times in site.insider("stays") if name == person.name]


async def stayed(client: Client) -> None:
    """Whoever was inside still is."""
    await client.ping()
    assert not client.closed.is_set()


async def until(what: Callable[[], bool], within: float) -> None:
    ends = time.monotonic() + within
    while not await asyncio.to_thread(what):
        assert time.monotonic() < ends
        await asyncio.sleep(0.2)


# The disk


@contextmanager
def small_disk(site: Site) -> Iterator[None]:
    """The bridge's state is on a disk of its own, with room for little more."""
    away = "systemctl stop sluss-audit-export.timer sluss-audit-export sluss-bridge && rm -rf /run/state"
    back = "systemctl start sluss-bridge sluss-audit-export.timer"
    disk = 'mount -t tmpfs -o size=$(($(du -sm /run/state | cut -f1) + 8))M,mode=0700 tmpfs "$PWD" && cd "$PWD"'
    site.insider.close()
    site.server.run(
        f"cd /var/lib/sluss && {away} && cp -a . /run/state && {disk} && cp -a /run/state/. . && {back}", timeout=60
    )
    ready(site)
    site.insider = Insider(site.server)
    try:
        yield
    finally:
        site.insider.close()
        site.server.run(
            f"cd /var/lib/sluss && {away} && rm -f filler && cp -a . /run/state && cd / && umount /var/lib/sluss &&"
            f" cp -a /run/state/. /var/lib/sluss/ && rm -rf /run/state && {back}",
            timeout=60,
        )
        ready(site)
        site.insider = Insider(site.server)


async def test_full_disk_lets_nobody_in_and_all_goes_on_when_there_is_room(site: Site, meeting: Meeting):
    anna, bo = meeting.people[:2]
    with small_disk(site):
        async with anna.enter() as inside:
            ticket = bo.ticket()
            site.server.run("dd if=/dev/zero of=/var/lib/sluss/filler bs=64k", check=False)
            assert await site.refused(ticket) == "unavailable"
            assert health(site) == {"database": False, "gate": True}
            answer = bo.browser.post(f"{bo.path}/join/code", Accept_Language="en")
            assert answer.status == 503
            assert "Nothing can be saved just now, so nothing was changed. Try again in a while." in answer.text
            await stayed(inside)
            site.server.run("rm /var/lib/sluss/filler")
            assert await site.refused(ticket) is None  # what was not written did not happen
            assert all(health(site).values())
            await stayed(inside)
        async with bo.enter():
            pass
        await until(lambda: all(seen for *_, seen in stays(site, anna)), 30)
        site.server.run("sluss audit verify")


# The clock


@contextmanager
def clock(site: Site) -> Iterator[Callable[[int], None]]:
    """Sets the clock of bridge and Prosody so many seconds wrong, while they run."""
    site.server.run(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends libfaketime", timeout=120
    )
    library = site.server.run("ls /usr/lib/*/faketime/libfaketime.so.1").stdout.strip()
    faked = f"LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/clock FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1"
    folders = [f"/run/systemd/system/{unit}.service.d" for unit in ("sluss-bridge", "prosody")]

    def wrong(seconds: int) -> None:
        site.server.run(f"echo {seconds:+} >/run/clock.new && mv /run/clock.new /run/clock")

    def restart(prepare: str) -> None:
        site.server.run(f"{prepare}; systemctl daemon-reload; systemctl restart prosody sluss-bridge", timeout=60)
        ready(site)

    wrong(0)
    write = "; ".join(f"mkdir -p {at}; printf '[Service]\\nEnvironment={faked}\\n' >{at}/clock.conf" for at in folders)
    restart(write)
    try:
        yield wrong
    finally:
        restart("; ".join(f"rm -r {at}" for at in folders))


async def test_clock_that_jumps_an_hour_honours_nothing_from_before_and_puts_nobody_out(site: Site, meeting: Meeting):
    """Ahead, then to before the door opens, then right again: each time whoever proves themselves anew may enter."""
    anna, bo = meeting.people[:2]
    with clock(site) as wrong:
        async with anna.enter() as inside:
            ticket = bo.ticket()
            wrong(+3600)
            assert await site.refused(ticket) == "expired"
            for purpose in ("view", "join"):
                assert (await asyncio.to_thread(bo.type_code, purpose)).status == 303
            early = ask_for_ticket(bo)
            assert await site.refused(early) is None
            other = ask_for_ticket(bo)
            wrong(-3600)
            assert await site.refused(other) == "expired"
            with pytest.raises(Refused, match="portal-403"):
                ask_for_ticket(bo)
            with contextlib.suppress(TimeoutError):  # longer than the bridge takes to look for meetings that are over
                await asyncio.wait_for(inside.closed.wait(), 12)
            await stayed(inside)
            wrong(0)
            async with bo.enter():
                await stayed(inside)
            await inside.leave()
        await until(lambda: all(left for _, left, _ in stays(site, anna)), 30)
        came, left, seen = stays(site, anna)[-1]
        assert seen
        assert 0 <= left - came < 300
    assert health(site) == {"database": True, "gate": True}


def ask_for_ticket(person: Person) -> dict[str, str]:
    """As the portal gives it, without another proof."""
    answer = person.browser.ask("POST", f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    if answer.status != 200:
        raise Refused(f"portal-{answer.status}")
    return {name: answer.json()[name] for name in ("room", "token")}


# Mail relay and SMS gateway

RELAY = """
import asyncio, smtplib, ssl
from aiosmtpd.smtp import SMTP

class ToTheOutbox:
    async def handle_DATA(self, server, session, envelope):
        with smtplib.SMTP("127.0.0.1", 2525) as outbox:
            outbox.sendmail(envelope.mail_from, envelope.rcpt_tos, envelope.content)
        return "250 OK"

async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("/run/relay/cert.pem", "/run/relay/key.pem")
    relay = lambda: SMTP(ToTheOutbox(), tls_context=tls, require_starttls=True)
    await asyncio.get_running_loop().create_server(relay, "127.0.0.1", 2587)
    await asyncio.Event().wait()

asyncio.run(main())
"""
SETTINGS = """
import yaml
path = "/etc/sluss/sluss.yml"
settings = yaml.safe_load(open(path))
settings["mail"] |= {"host": "relay.sluss.test", "port": 2587, "security": "starttls"}
settings["sms"]["url"] = "http://sms.sluss.test:8025/sms"
open(path, "w").write(yaml.safe_dump(settings))
"""
NAMES = "127.0.0.1 relay.sluss.test sms.sluss.test"
FIRST, LAST = "20200101000000Z", "20991231000000Z"


def certificate(names: str, key: str, ends: str) -> str:
    """Shell: print a certificate by the server's own authority."""
    extension = f"subjectAltName={','.join(f'DNS:{name}' for name in names.split())}"
    return (
        f"printf '{extension}\\nextendedKeyUsage=serverAuth\\n' >/run/extensions &&"
        f" openssl req -new -key {key} -subj /CN=Test |"
        f" openssl x509 -req -CA /etc/sluss/tls/ca.pem -CAkey /etc/sluss/tls/ca.key -extfile /run/extensions"
        f" -not_before {FIRST} -not_after {ends}"
    )


def relay_certificate(site: Site, ends: str) -> None:
    """Give the relay a certificate that is good until then, and start it with it."""
    key = "/run/relay/key.pem"
    site.server.run(
        f"mkdir -p /run/relay; openssl ecparam -genkey -name prime256v1 -noout -out {key};"
        f" {certificate('relay.sluss.test', key, ends)} >/run/relay/cert.pem && systemctl restart relay"
    )


@pytest.fixture(scope="module")
def relay(site: Site) -> Iterator[None]:
    """Mail goes to a relay with TLS, and both it and the SMS gateway are known by name."""
    python = "/opt/sluss/venv/bin/python"
    trust = "/usr/local/share/ca-certificates/own.crt"
    unit = f"[Service]\nExecStart=/usr/bin/python3 -c {json.dumps(RELAY)}\n"
    site.server.run("cat >/run/systemd/system/relay.service && systemctl daemon-reload", input=unit)
    site.server.run(
        f"cp -a /etc/sluss/sluss.yml /run/sluss.yml; cp /etc/sluss/tls/ca.pem {trust}; update-ca-certificates;"
        f" echo '{NAMES}' >>/etc/hosts; {python} -c '{SETTINGS}'"
    )
    relay_certificate(site, LAST)
    site.server.run("systemctl restart sluss-bridge", timeout=60)
    ready(site)
    yield
    site.server.run(
        f"systemctl stop relay; rm -r /run/relay /run/systemd/system/relay.service {trust}; systemctl daemon-reload;"
        f" update-ca-certificates --fresh; sed -i '/{NAMES}/d' /etc/hosts; cp -a /run/sluss.yml /etc/sluss/sluss.yml;"
        " systemctl restart sluss-bridge",
        timeout=60,
    )
    ready(site)


@contextmanager
def names_away(site: Site) -> Iterator[None]:
    """No name server answers."""
    nowhere = "nameserver 192.0.2.53\\noptions timeout:1 attempts:2\\n"
    site.server.run(
        f"cp /etc/resolv.conf /run/resolv.conf; printf '{nowhere}' >/etc/resolv.conf; sed -i '/{NAMES}/d' /etc/hosts"
    )
    try:
        yield
    finally:
        site.server.run(f"cat /run/resolv.conf >/etc/resolv.conf; echo '{NAMES}' >>/etc/hosts")


def says(meeting: Meeting, why: str) -> Callable[[], bool]:
    """Whether the organiser is told that a mail waits, and why."""

    def look() -> bool:
        page = meeting.organiser.browser.get(f"/meetings/{meeting.id}", Accept_Language="en").text
        return bool(re.search(rf"The mail is waiting to be sent\.\s*<small>[^<]*{why}", page))

    return look


async def test_without_names_doors_open_and_messages_wait_and_then_go_out(site: Site, meeting: Meeting, relay: None):
    anna, bo = meeting.people[:2]
    carl = meeting.newcomer()
    async with anna.enter() as inside:
        with names_away(site):
            before = len(site.messages("sms", carl.mobile))
            (nora,) = meeting.add("Nora Nyman")
            assert carl.browser.post(f"{carl.path}/code").status == 303
            await until(says(meeting, "relay.sluss.test"), AGAIN)
            async with bo.enter():
                await stayed(inside)
        await until(lambda: len(site.messages("sms", carl.mobile)) > before, AGAIN)
        await until(lambda: bool(site.messages("mail", nora.email)), AGAIN)
        await stayed(inside)


async def test_mail_waits_for_a_relay_whose_certificate_has_expired(site: Site, meeting: Meeting, relay: None):
    relay_certificate(site, "20200201000000Z")
    (nils,) = meeting.add("Nils Nyman")
    await until(says(meeting, "certificate has expired"), AGAIN)
    assert site.messages("mail", nils.email) == []
    relay_certificate(site, LAST)
    await until(lambda: bool(site.messages("mail", nils.email)), AGAIN)


# Visitors' TLS


def certificate_ends_in(site: Site) -> float:
    """Days, as the bridge's metrics have it."""
    script = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8601/metrics').read().decode())"
    ends = re.search(r"^sluss_certificate_expires (\S+)", on_host(site, script), re.MULTILINE)[1]
    return (float(ends) - time.time()) / 86400


def visitors(site: Site) -> str:
    """What a browser makes of the portal's certificate: nothing to say, or why it goes no further."""
    try:
        Browser(site).get("/sign-in")
    except ssl.SSLCertVerificationError as no:
        return no.verify_message
    return ""


# Until the old workers take no more visitors: for a moment after the signal both do.
RELOAD = r"""
old=$(cat /proc/$(cat /run/nginx.pid)/task/*/children)
nginx -s reload
for pid in $old; do
    while [ -e /proc/$pid ] && ! tr '\0' ' ' </proc/$pid/cmdline | grep -q 'shutting down'; do sleep 0.1; done
done
"""


async def test_expired_certificate_is_shown_by_the_metrics_and_renewed_by_the_play(site: Site, meeting: Meeting):
    anna, bo = meeting.people[:2]
    names = "portal.sluss.test meet.sluss.test outbox.sluss.test"
    expired = certificate(names, "/etc/sluss/tls/key.pem", "20200201000000Z")
    assert certificate_ends_in(site) > 800
    async with anna.enter() as inside:
        ticket = bo.ticket()
        site.server.run(f"{expired} >/run/expired && cp /run/expired /etc/sluss/tls/fullchain.pem; {RELOAD}")
        try:
            await until(lambda: visitors(site) == "certificate has expired", 30)
            assert certificate_ends_in(site) < 0
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await site.refused(ticket)
            await stayed(inside)
        finally:
            renewed = await asyncio.to_thread(site.server.provision)
        assert not renewed.failed, renewed.failure
        assert certificate_ends_in(site) > 800
        await until(lambda: not visitors(site), 30)
        await stayed(inside)
        async with bo.enter():
            await stayed(inside)
