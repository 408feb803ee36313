"""The organisation's directory: OpenLDAP or Active Directory, over TLS and never without (RFC 4511, 4513, 4515).

ldap3 blocks, so each question runs in a thread of a small pool, over a connection of its own, with time limits. TLS is
the standard library's, not ldap3's, which compares host names in a way of its own. Referrals are not followed: they
would take passwords to servers that nobody named.
"""

import asyncio
import re
import socket
import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ldap3
import structlog
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from sluss.domain.directory import MOST_FOUND, Colleague
from sluss.domain.errors import ConfigError, DirectoryUnavailable

THREADS = 8
WAITING = 64
"""So many questions may be open, those that wait for a thread too. More are refused: the directory is too slow."""
CONNECT_SECONDS, ANSWER_SECONDS = 3, 5
"""For each server, and for each of its answers."""
ALL_SECONDS = 20.0
"""For a question, whatever the servers do."""
_PORTS = {"ldap": 389, "ldaps": 636}
_IN_CHAIN = "member:1.2.840.113556.1.4.1941:"
"""Active Directory's `member` that looks into groups in groups (LDAP_MATCHING_RULE_IN_CHAIN)."""

# Results (RFC 4511, A.1) that say no to a password. Every other one but success says that the directory cannot answer.
_NO = frozenset({19, 32, 34, 48, 49, 50, 53})
_GUID_BYTES = 16
_SUCCESS, _SIZE_LIMIT, _NO_SUCH_OBJECT = 0, 4, 32

T = TypeVar("T")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of directory calls things."""

    people: str
    """Who may sign in: a filter."""
    id: str
    mail: str
    sign_in: tuple[str, ...]
    """What people may sign in with, besides their address."""
    member: str
    """The attribute of a group, with a matching rule where there is one."""


KINDS = {
    "openldap": Kind("(objectClass=inetOrgPerson)", "entryUUID", "mail", (), "member"),
    "active-directory": Kind(
        # Without those that are disabled (ACCOUNTDISABLE, 2)
        "(&(objectClass=user)(!(objectClass=computer))(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
        "objectGUID",
        "mail",
        ("userPrincipalName", "sAMAccountName"),
        _IN_CHAIN,
    ),
}


@dataclass(frozen=True, slots=True, repr=False)
class DirectorySettings:
    """Where the directory is, and what in it is what."""

    kind: Kind
    servers: tuple[str, ...]
    """`ldaps://host`, or `ldap://host` with StartTLS; with a port if it is another. Tried in turn."""
    authority: Path
    """Who signed their certificates, PEM. No other is trusted."""
    account: str
    """Who searches: its DN."""
    password: str
    base: str
    people: str = ""
    """A filter, in place of the kind's."""
    mail: str = ""
    mobile: str = "mobile"
    name: str = "displayName"
    organisers: str = ""
    """The DN of the group; empty: nobody is one by it."""
    auditors: str = ""


class _Tls(ldap3.Tls):  # type: ignore[misc]  # it has no types
    """The standard library's TLS, for whichever server the connection is to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """What ldap3 calls, for ldaps and after StartTLS."""
        # Otherwise what follows the handshake waits for the server's delayed acknowledgement, 40 ms.
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket = self._context.wrap_socket(
            connection.socket, do_handshake_on_connect=do_handshake, server_hostname=connection.server.host
        )


class Ldap:
    """The client. Every question raises `DirectoryUnavailable` if there is no answer."""

    def __init__(self, settings: DirectorySettings) -> None:
        """Raises `ConfigError`."""
        self._s = settings
        self._people = settings.people or settings.kind.people
        self._mail = settings.mail or settings.kind.mail
        try:
            context = ssl.create_default_context(cafile=settings.authority)
        except OSError as error:  # ssl.SSLError is one
            why = error.strerror or type(error).__name__
            raise ConfigError(f"ldap.authority: {settings.authority}: cannot be used: {why}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls = _Tls(context)
        self._pool = ThreadPoolExecutor(THREADS, "ldap")
        self._open = 0
        self._answered = ""
        """The server that answered last: it is asked first."""

    async def by_address(self, address: str, *, organiser: bool = False) -> Colleague | None:
        """The one person with this e-mail address; None if there is none, or more.

        Of an organiser also by a name to sign in with, and with what the groups say.
        """
        attributes = (self._mail, *(self._s.kind.sign_in if organiser else ()))
        filters = "".join(f"({name}={escaped(address)})" for name in dict.fromkeys(attributes))
        return await self._ask(lambda: self._one(f"(|{filters})", roles=organiser))

    async def by_id(self, entry: str) -> Colleague | None:
        """The person with this `Colleague.id`, if they still may sign in."""
        return await self._ask(lambda: self._one(f"({self._s.kind.id}={self._written(entry)})", roles=True))

    async def named(self, words: Iterable[str]) -> list[Colleague]:
        """Those whose names have all these words, or whose address begins with the first: `MOST_FOUND` at most."""
        parts = [escaped(word) for word in words if word.isprintable()]  # others a directory may take for nothing
        if not parts:
            return []
        every = "".join(f"({self._s.name}=*{part}*)" for part in parts)

        def work() -> list[Colleague]:
            with self._connected() as connection:
                return self._found(connection, f"(|(&{every})({self._mail}={parts[0]}*))", MOST_FOUND)

        return sorted(await self._ask(work), key=lambda one: one.name.casefold())

    async def knows(self, dn: str, password: str) -> bool:
        """Whether it is the password of the entry with this DN.

        An empty one is never sent: servers may take it for a question without a name, and say yes (RFC 4513, 5.1.2).
        """
        if not password or not dn or "\0" in password:
            return False
        return await self._ask(lambda: self._bind(dn, password))

    def nobody(self) -> str:
        """A DN of nobody, for when there is nobody to ask about: it takes the same way."""
        return f"cn={uuid.uuid4()},{self._s.base}"

    def close(self) -> None:
        """End the threads, without waiting for their answers."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, work: Callable[[], T]) -> T:
        if self._open >= WAITING:
            raise DirectoryUnavailable("too many questions at once")
        self._open += 1
        future = self._pool.submit(work)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), ALL_SECONDS)
        except TimeoutError:
            raise DirectoryUnavailable(f"{', '.join(self._s.servers)}: no answer in time") from None
        except (LDAPException, OSError) as error:
            raise DirectoryUnavailable(f"{self._answered}: {_why(error)}") from None

    def _done(self) -> None:
        self._open -= 1

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection for the service account, to the first server that gives one."""
        with self._first(lambda connection: _bound(connection, self._s.account, self._s.password)) as connection:
            yield connection

    @contextmanager
    def _first(self, ready: Callable[[Any], int] = lambda _: _SUCCESS) -> Iterator[Any]:
        """A connection under TLS to the first server that gives one and gets it `ready`."""
        reasons = []
        for server in sorted(self._s.servers, key=lambda one: one != self._answered):
            try:
                connection = self._to(server)
            except (LDAPException, OSError) as error:
                reasons.append(f"{server}: {_why(error)}")
                continue
            try:
                try:
                    result = ready(connection)
                except (LDAPException, OSError) as error:
                    reasons.append(f"{server}: {_why(error)}")
                    continue
                if result != _SUCCESS:
                    reasons.append(f"{server}: the service account: result {result}")
                    continue
                self._answered = server
                yield connection
                return
            finally:
                _closed(connection)
        raise DirectoryUnavailable("; ".join(reasons))

    def _to(self, server: str) -> Any:
        """A new connection to a server, under TLS before anything is said."""
        url = urlsplit(server)
        where = ldap3.Server(
            url.hostname,
            port=url.port or _PORTS[url.scheme],
            use_ssl=url.scheme == "ldaps",
            tls=self._tls,
            get_info=ldap3.NONE,
            connect_timeout=CONNECT_SECONDS,
        )
        connection = ldap3.Connection(
            where, receive_timeout=ANSWER_SECONDS, auto_referrals=False, check_names=False, read_only=True
        )
        try:
            connection.open(read_server_info=False)
            if url.scheme == "ldap":
                connection.start_tls(read_server_info=False)
            if not isinstance(connection.socket, ssl.SSLSocket):
                raise ssl.SSLError("no TLS")
        except (LDAPException, OSError):
            _closed(connection)
            raise
        return connection

    def _bind(self, dn: str, password: str) -> bool:
        with self._first() as connection:  # one server: what says no counts a try, and another would count it again
            result = _bound(connection, dn, password)
        if result not in {_SUCCESS, *_NO}:
            raise DirectoryUnavailable(f"{self._answered}: bind: result {result}")
        return result == _SUCCESS

    def _one(self, which: str, *, roles: bool) -> Colleague | None:
        with self._connected() as connection:
            found = self._found(connection, which, 2)
            if len(found) != 1:
                if found:
                    _log.warning("directory_ambiguous", reason="two entries have the same address")
                return None
            groups = {"organiser": self._s.organisers, "auditor": self._s.auditors} if roles else {}
            mine = frozenset(role for role, group in groups.items() if self._is_member(connection, found[0].dn, group))
        return replace(found[0], roles=mine)

    def _found(self, connection: Any, which: str, most: int) -> list[Colleague]:
        """The people whom a filter finds. What is beyond `most` is left out."""
        connection.search(
            self._s.base,
            f"(&{self._people}{which})",
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=[self._s.kind.id, self._mail, self._s.mobile, self._s.name, "cn"],
            size_limit=most,
            time_limit=ANSWER_SECONDS,
        )
        if (result := connection.result["result"]) not in {_SUCCESS, _SIZE_LIMIT}:
            raise DirectoryUnavailable(f"{self._answered}: search: result {result}")
        entries = [one for one in connection.response or [] if one["type"] == "searchResEntry"]
        people = [self._colleague(one["dn"], one["raw_attributes"]) for one in entries]
        return [one for one in people if one.id][:most]

    def _colleague(self, dn: str, raw: Mapping[str, list[bytes]]) -> Colleague:
        values = {name.lower(): found for name, found in raw.items()}

        def texts(name: str) -> tuple[str, ...]:
            return tuple(value.decode(errors="replace") for value in values.get(name.lower(), []))

        entry = b"".join(values.get(self._s.kind.id.lower(), [])[:1])
        name, mobile = texts(self._s.name) or texts("cn"), texts(self._s.mobile)
        return Colleague(
            str(uuid.UUID(bytes_le=entry)) if len(entry) == _GUID_BYTES else entry.decode(errors="replace"),
            dn,
            name[0] if name else "",
            texts(self._mail),
            mobile[0] if mobile else "",
        )

    def _is_member(self, connection: Any, dn: str, group: str) -> bool:
        """Whether an entry is in a group, as the group says: that needs no overlay for `memberOf`."""
        if not group:
            return False
        ours = escaped(dn)
        which = f"({self._s.kind.member}={ours})"
        if self._s.kind.member == "member":
            which = f"(|{which}(uniqueMember={ours}))"
        connection.search(group, which, ldap3.BASE, attributes=[ldap3.NO_ATTRIBUTES], time_limit=ANSWER_SECONDS)
        result = connection.result["result"]
        if result == _NO_SUCH_OBJECT:
            _log.warning("directory_group_missing", group=group)
            return False
        if result != _SUCCESS:
            raise DirectoryUnavailable(f"{self._answered}: group: result {result}")
        return any(one["type"] == "searchResEntry" for one in connection.response or [])

    def _written(self, entry: str) -> str:
        """A `Colleague.id` in a filter."""
        if self._s.kind.id != "objectGUID":
            return escaped(entry)
        try:
            return "".join(f"\\{byte:02x}" for byte in uuid.UUID(entry).bytes_le)
        except ValueError:
            return escaped(entry)


def escaped(value: str) -> str:
    """A value as it may stand in a filter (RFC 4515, 3)."""
    return str(escape_filter_chars(value))


def _bound(connection: Any, dn: str, password: str) -> int:
    """The result of a simple bind. The password goes as it is, and not as ldap3 would prepare it."""
    connection.rebind(dn, password.encode(), ldap3.SIMPLE, read_server_info=False)
    return int(connection.result["result"])


def _closed(connection: Any) -> None:
    with suppress(LDAPException, OSError):
        connection.unbind()


def _why(error: Exception) -> str:
    """For the log: what kind of failure, and of TLS also what is wrong with the certificate. Never what was sent."""
    said = str(error)
    found = re.search(
        r"certificate verify failed: ([^()]*)|Connection refused|timed out|Name or service not known", said
    )
    return found[0].strip() if found else type(error).__name__
