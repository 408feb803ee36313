"""The composition root: opens everything in order, and closes it in reverse."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web
from cryptography import x509
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sluss.config import Credentials, HttpSms, Settings
from sluss.delivery import sms
from sluss.delivery.mail import SmtpMail
from sluss.delivery.provider import HttpsAsker
from sluss.delivery.worker import OutboxWorker
from sluss.domain.assurance import Risk
from sluss.domain.errors import ConfigError, GateUnavailable
from sluss.domain.gate import Door
from sluss.domain.policy import Policy
from sluss.factors.bankid import URLS, BankId, mutual_tls
from sluss.factors.passwords import Passwords
from sluss.factors.sign_in import Asker, Provider, ProviderSettings
from sluss.factors.smartcard import CardRules, check_authorities, crl_ends
from sluss.gate import Gate
from sluss.keyring.secrets import Hasher, audit_key, field_key, form_key
from sluss.keyring.tickets import TicketKeys
from sluss.policy_file import default_policy
from sluss.services import Services
from sluss.services.account_authenticators import AccountAuthenticators
from sluss.services.accounts import Accounts
from sluss.services.admission import Admission
from sluss.services.attendance import Attendance
from sluss.services.audit_log import AuditLog
from sluss.services.authenticators import Authenticators
from sluss.services.bankid import BankIdOrders
from sluss.services.common import Ground, Site
from sluss.services.directory import PACE, Directory
from sluss.services.health import Health
from sluss.services.housekeeping import Housekeeping
from sluss.services.keys import Keys
from sluss.services.meetings import Meetings
from sluss.services.organisers import Organisers
from sluss.services.outside import Outside
from sluss.services.participation import Participation
from sluss.services.passkeys import Passkeys
from sluss.services.sign_in import SignIns
from sluss.services.smartcard import SmartCards
from sluss.services.tickets import Tickets
from sluss.services.verification import Verifications
from sluss.store.database import Store, require_current_schema
from sluss.store.sealing import Sealer
from sluss.web import make_cards, make_internal, make_keys, make_portal
from sluss.web.settings import PortalSettings

if TYPE_CHECKING:
    from sluss.factors.ldap import Ldap

SHUTDOWN_SECONDS = 10.0

Clock = Callable[[], datetime]
_log = structlog.get_logger()


def utc_now() -> datetime:
    """The one place where the real clock is read."""
    return datetime.now(UTC)


class _NoDoor:
    """Stands where the gate is declared away: nobody is inside, nobody can be put out."""

    connected = False

    async def expel(self, room: str, username: str, text: str) -> int:  # noqa: ARG002
        raise GateUnavailable("the gate is declared away")

    async def end(self, room: str, text: str) -> None:  # noqa: ARG002
        raise GateUnavailable("the gate is declared away")


class _Gauges(Collector):
    """Numbers that are read when they are asked for."""

    def __init__(self, door: Callable[[], Door], certificate: Path | None, crl: Path | None) -> None:
        self._door, self._certificate, self._crl = door, certificate, crl

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client calls."""
        yield GaugeMetricFamily("sluss_gate_connected", "Whether the gate is up.", int(self._door().connected))
        if self._certificate:
            with contextlib.suppress(OSError, ValueError):  # none that can be read: no number, which is seen as well
                certificate = x509.load_pem_x509_certificate(self._certificate.read_bytes())
                until = certificate.not_valid_after_utc.timestamp()
                yield GaugeMetricFamily("sluss_certificate_expires", "When visitors' TLS ends, in Unix seconds.", until)
        if self._crl:
            with contextlib.suppress(OSError, ValueError):  # the same
                until = crl_ends(self._crl).timestamp()
                yield GaugeMetricFamily("sluss_crl_expires", "When cards stop to count, in Unix seconds.", until)


@dataclass(frozen=True, slots=True)
class Bridge:
    """A running bridge."""

    services: Services
    store: Store
    outbox: OutboxWorker
    gate: Gate | None
    portal_port: int
    internal_port: int


@asynccontextmanager
async def services_of(
    settings: Settings, credentials: Credentials, clock: Clock = utc_now, *, policy: Policy | None = None
) -> AsyncIterator[tuple[Services, Store]]:
    """The verbs alone, for admin commands: no listener, no gate; the running bridge sends what is queued.

    Without a `policy` it is the shipped one.
    """
    master = credentials.master_key
    store = _open_store(settings, master)
    try:
        ground = _ground(settings, store, master, clock, lambda: None, policy=policy)
        yield _services(ground, TicketKeys(credentials.ticket_keys), _NoDoor, gate=False), store
    finally:
        store.close()


@asynccontextmanager
async def running(
    settings: Settings,
    credentials: Credentials,
    *,
    clock: Clock = utc_now,
    registry: CollectorRegistry | None = None,
    policy: Policy | None = None,
) -> AsyncIterator[Bridge]:
    """Everything, opened in the order store → clients → services → gate → pages. Raises `ConfigError`.

    Without a `policy` it is the shipped one.
    """
    registry = registry or CollectorRegistry()
    master = credentials.master_key
    keys = TicketKeys(credentials.ticket_keys)
    mail = _mail(settings, credentials)
    async with AsyncExitStack() as stack:
        store = _open_store(settings, master)
        stack.callback(store.close)
        client = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        outbox = OutboxWorker(store, mail, _sms(settings, credentials, client), clock)
        ground = _ground(settings, store, master, clock, outbox.wake, policy=policy)
        gate: Gate | None = None
        ldap = directory_client(settings, credentials)
        if ldap is not None:
            stack.callback(ldap.close)

        def door() -> Door:
            return gate or _NoDoor()

        services = _services(
            ground,
            keys,
            door,
            gate=settings.gate.enabled,
            bankid=_bankid(settings, credentials, client),
            provider=_provider(settings, credentials, HttpsAsker(client)),
            ldap=ldap,
            cards=_cards(settings),
        )
        if services.bankid:
            stack.push_async_callback(services.bankid.stop)
        if settings.gate.enabled:
            link = settings.gate
            secret = credentials.component_secret
            gate = Gate(link.component, link.host, link.port, secret, settings.meet_host, services.admission)
            await gate.start()
            stack.push_async_callback(gate.stop)
        outbox.start()
        stack.push_async_callback(outbox.stop)
        housekeeping = Housekeeping(ground, services.admission, services.directory, time.monotonic)
        housekeeping.start()
        stack.push_async_callback(housekeeping.stop)

        ProcessCollector(registry=registry)
        cards = settings.smartcard
        registry.register(_Gauges(door, settings.certificate, cards.crl if cards else None))
        seen_by_pages = _portal_settings(settings, master)
        portal = make_portal(services, seen_by_pages, keys, clock)
        portal_port = await _listen(stack, portal, settings.listen.portal)
        internal_port = await _listen(stack, make_internal(services.health, registry), settings.listen.internal)
        if cards:
            await _listen_at(stack, make_cards(services, seen_by_pages), cards.socket, "smartcard.socket", 0o666)
        if settings.listen.keys:
            await _listen_at(stack, make_keys(services.keys), settings.listen.keys, "listen.keys", 0o600)
        yield Bridge(services, store, outbox, gate, portal_port, internal_port)


async def serve(settings: Settings, credentials: Credentials, policy: Policy, registry: CollectorRegistry) -> None:
    """Run until SIGTERM or SIGINT. systemd is told when the gate's link is up, and not before."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, credentials, registry=registry, policy=policy) as bridge:
        _log.info("policy", path=policy.source, classes=",".join(policy.classes))
        _log.info("listening", portal=bridge.portal_port, internal=bridge.internal_port)
        if bridge.gate is not None:
            _tell_systemd("STATUS=Waiting for Prosody's component link")
            await _first(bridge.gate.wait_connected(None), stop.wait())
        if not stop.is_set():
            _tell_systemd("READY=1\nSTATUS=The gate is up" if bridge.gate else "READY=1\nSTATUS=No gate")
            _log.info("ready")
            await stop.wait()
        _tell_systemd("STOPPING=1")
        _log.info("stopping")


def _tell_systemd(state: str) -> None:
    """One datagram to the socket that systemd names (sd_notify(3)). Without systemd: nothing."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address.replace("@", "\0", 1))


async def _first(*waits: object) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _open_store(settings: Settings, master: bytes) -> Store:
    store = Store(settings.database, Sealer(field_key(master)), audit_key(master))
    try:
        require_current_schema(store.engine)
    except ConfigError:
        store.close()
        raise
    return store


def _ground(
    settings: Settings, store: Store, master: bytes, clock: Clock, wake: Callable[[], None], *, policy: Policy | None
) -> Ground:
    portal_host = urlsplit(settings.portal).hostname or ""
    site = Site(settings.organisation, settings.portal, portal_host, settings.meet_host, settings.default_locale)
    return Ground(
        store, clock, Hasher(master), site, wake, settings.sms_rules, policy or default_policy(), settings.methods
    )


def _services(
    ground: Ground,
    keys: TicketKeys,
    door: Callable[[], Door],
    *,
    gate: bool,
    bankid: tuple[BankId, Risk] | None = None,
    provider: Provider | None = None,
    ldap: "Ldap | None" = None,
    pace: float = PACE,
    cards: CardRules | None = None,
) -> Services:
    verifications = Verifications(ground)
    directory = Directory(ground, ldap, verifications, pace)
    organisers = Organisers(ground, Passwords(), directory)
    participation = Participation(ground, door, verifications)
    tickets = Tickets(ground, keys, organisers)
    return Services(
        organisers=organisers,
        accounts=Accounts(ground, organisers, door),
        account_authenticators=AccountAuthenticators(ground, organisers),
        meetings=Meetings(ground, door),
        participation=participation,
        passkeys=Passkeys(ground, organisers, tickets, participation, verifications),
        authenticators=Authenticators(ground, participation, verifications),
        sign_ins=SignIns(ground, provider, verifications, organisers, tickets),
        directory=directory,
        tickets=tickets,
        admission=Admission(ground, keys, participation, door),
        outside=Outside(ground, tickets, door),
        attendance=Attendance(ground, keys, organisers),
        audit=AuditLog(ground, organisers),
        health=Health(ground, door if gate else None),
        keys=Keys(ground, keys),
        bankid=BankIdOrders(ground, verifications, participation, *bankid) if bankid else None,
        cards=SmartCards(ground, verifications, cards) if cards else None,
    )


def _mail(settings: Settings, credentials: Credentials) -> SmtpMail:
    mail = settings.mail
    return SmtpMail(
        mail.host,
        mail.port,
        security=mail.security,
        sender=mail.sender,
        username=mail.username,
        password=credentials.smtp_password,
    )


def _provider(settings: Settings, credentials: Credentials, asker: Asker) -> Provider | None:
    if (given := settings.sign_in) is None:
        return None
    groups = given.organisers
    return Provider(
        ProviderSettings(
            given.issuer,
            given.client_id,
            credentials.sign_in_secret or "",
            f"{settings.portal}/sign-in/back",
            given.methods,
            given.acr_values,
            given.scopes,
            given.email_claim,
            given.email_trusted,
            given.hosts,
            groups.claim if groups else "",
            groups.organiser if groups else "",
            groups.auditor if groups else "",
        ),
        asker,
    )


def directory_client(settings: Settings, credentials: Credentials) -> "Ldap | None":
    """The directory's client. Raises `ConfigError`."""
    if (given := settings.ldap) is None:
        return None
    from sluss.factors.ldap import KINDS, DirectorySettings, Ldap  # noqa: PLC0415 - megabytes, for those who use it

    return Ldap(
        DirectorySettings(
            KINDS[given.kind],
            given.servers,
            given.authority,
            given.account,
            credentials.ldap_password or "",
            given.base,
            given.people or "",
            given.mail or "",
            given.mobile,
            given.name,
            given.organisers or "",
            given.auditors or "",
        )
    )


def _sms(settings: Settings, credentials: Credentials, client: aiohttp.ClientSession) -> sms.SmsSender:
    chosen = settings.sms
    if not isinstance(chosen, HttpSms):
        return sms.GammuSms(chosen.inject, chosen.config)
    return sms.HttpSms(
        client,
        chosen.url,
        method=chosen.method,
        headers=chosen.headers,
        json=chosen.json,
        form=chosen.form,
        username=chosen.username,
        password=credentials.sms_password,
    )


def _bankid(settings: Settings, credentials: Credentials, client: aiohttp.ClientSession) -> tuple[BankId, Risk] | None:
    """BankID's service, and the highest risk that is accepted. Raises `ConfigError`."""
    chosen = settings.bankid
    if chosen is None or credentials.bankid is None:
        return None
    tls = mutual_tls(chosen.authority, *credentials.bankid)
    return BankId(client, chosen.url or URLS[chosen.environment], tls), chosen.accepted_risk


def _cards(settings: Settings) -> CardRules | None:
    """Which certificates count. Raises `ConfigError`."""
    if (chosen := settings.smartcard) is None:
        return None
    check_authorities(chosen.authorities)
    return CardRules(chosen.authorities, frozenset(chosen.policies), chosen.address == "upn")


def _portal_settings(settings: Settings, master: bytes) -> PortalSettings:
    return PortalSettings(
        organisation=settings.organisation,
        portal_origin=settings.portal,
        meet_origin=settings.meet,
        meet_host=settings.meet_host,
        jitsi=settings.jitsi,
        trusted_proxies=tuple(map(ip_address, settings.trusted_proxies)),
        default_locale=settings.default_locale,
        default_region=settings.default_region,
        sms_prefixes=settings.sms_rules.prefixes,
        csrf_key=form_key(master),
        card_origin=settings.smartcard.origin if settings.smartcard else "",
    )


async def _runner(stack: AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _listen_at(stack: AsyncExitStack, app: web.Application, path: Path, setting: str, mode: int) -> None:
    """On a socket in a directory that says who may come near it."""
    runner = await _runner(stack, app)
    try:
        await web.UnixSite(runner, path).start()
        os.chmod(path, mode)  # noqa: PTH101
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: {error.strerror}") from None


async def _listen(stack: AsyncExitStack, app: web.Application, endpoint: str) -> int:
    runner = await _runner(stack, app)
    host, _, port = endpoint.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        raise ConfigError(f"listen: {endpoint}: {error.strerror}") from None
    return int(runner.addresses[0][1])
