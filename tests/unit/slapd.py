"""A real directory: Debian's slapd, as an ordinary process with a database of its own, under TLS."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.unit.certificates import Authority
from tests.unit.gate.prosody import free_port
from tests.unit.world import World, build

from sluss.domain.assurance import Method, Purpose
from sluss.factors.ldap import KINDS, DirectorySettings, Ldap

BASE = "dc=sluss,dc=test"
SERVICE, SERVICE_PASSWORD = f"cn=sluss,{BASE}", "service password 8d1e"
ROOT, ROOT_PASSWORD = f"cn=root,{BASE}", "root"
ORGANISERS, AUDITORS = f"cn=organisers,{BASE}", f"cn=auditors,{BASE}"
PASSWORD = "grön lampa (3) vid dörren"  # as people have them

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
# What Active Directory has besides, as it has it. (The schema in Debian's package compares none of these.)
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP inetOrgPerson STRUCTURAL
  MAY ( sAMAccountName $ userPrincipalName $ objectGUID $ userAccountControl ) )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP user STRUCTURAL )
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {folder}/slapd.pid
TLSCACertificateFile {ca}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
# Nobody is asked for a password in clear text: a client that tried would find out.
security simple_bind=128
sizelimit 500
database mdb
suffix "{base}"
rootdn "{root}"
rootpw {root_password}
directory {folder}/db
maxsize 10485760
overlay ppolicy
ppolicy_default "cn=policy,{base}"
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
"""

LDIF = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Sluss
dc: sluss

dn: cn=policy,{BASE}
objectClass: pwdPolicy
objectClass: device
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 5
pwdFailureCountInterval: 1800

dn: {SERVICE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: {SERVICE_PASSWORD}

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people
"""


def _line(name: str, value: str) -> str:
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def person(uid: str, name: str, *mails: str, mobile: str = "", **more: str) -> str:
    """An entry in LDIF."""
    lines = [f"dn: {dn(uid)}", "objectClass: inetOrgPerson", f"uid: {uid}", "sn: x", _line("cn", name)]
    lines += [_line("displayName", name), *(_line("mail", mail) for mail in mails)]
    lines += [_line("mobile", mobile)] if mobile else []
    lines += [_line(attribute, value) for attribute, value in ({"userPassword": PASSWORD} | more).items()]
    return "\n".join(lines) + "\n"


def dn(uid: str) -> str:
    return f"uid={uid},ou=people,{BASE}"


def group(name: str, *members: str) -> str:
    lines = [f"dn: {name}", "objectClass: groupOfNames", "cn: x"]
    lines[-1] = f"cn: {name.partition(',')[0].removeprefix('cn=')}"
    return "\n".join([*lines, *(f"member: {member}" for member in members)]) + "\n"


@dataclass
class Slapd:
    """A running one."""

    folder: Path
    authority: Authority
    host: str = "localhost"
    address: str = "127.0.0.1"
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    _process: subprocess.Popen | None = None

    @property
    def starttls(self) -> str:
        return f"ldap://{self.host}:{self.ports[0]}"

    @property
    def ldaps(self) -> str:
        return f"ldaps://{self.host}:{self.ports[1]}"

    def prepare(self, *entries: str) -> None:
        """Make the database."""
        (self.folder / "db").mkdir(parents=True)
        certificate, key = self.authority.issue(self.host)
        text = CONFIG.format(
            folder=self.folder,
            ca=self.authority.file,
            certificate=certificate,
            key=key,
            base=BASE,
            root=ROOT,
            root_password=ROOT_PASSWORD,
            service=SERVICE,
        )
        (self.folder / "slapd.conf").write_text(text)
        ldif = "\n".join([LDIF, *entries])
        self._tool("slapadd", "-q", "-f", f"{self.folder}/slapd.conf", said=ldif)

    def start(self) -> None:
        """Returns when it answers."""
        urls = f"ldap://{self.address}:{self.ports[0]} ldaps://{self.address}:{self.ports[1]}"
        command = ["/usr/sbin/slapd", "-d", "0", "-f", f"{self.folder}/slapd.conf", "-h", urls]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        probe = ["ldapsearch", "-x", "-LLL", "-H", f"ldap://{self.address}:{self.ports[0]}", "-b", "", "-s", "base"]
        while subprocess.run(probe, capture_output=True, check=False).returncode not in (0, 13, 32, 50):
            assert self._process.poll() is None, "slapd did not start"
            assert time.monotonic() < until, "slapd does not answer"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def modify(self, ldif: str) -> None:
        """Change something, as the directory's administrator."""
        self._tool("ldapmodify", *self._admin(), said=ldif)

    def change(self, uid: str, attribute: str, value: str) -> None:
        where = f"dn: {dn(uid)}\nchangetype: modify\nreplace: {attribute}\n"
        self.modify(where + (f"{_line(attribute, value)}\n" if value else ""))

    def leave(self, name: str, uid: str) -> None:
        """Take somebody out of a group."""
        self.modify(f"dn: {name}\nchangetype: modify\ndelete: member\nmember: {dn(uid)}\n")

    def join(self, name: str, uid: str) -> None:
        self.modify(f"dn: {name}\nchangetype: modify\nadd: member\nmember: {dn(uid)}\n")

    def failures(self, uid: str) -> int:
        """How many wrong passwords of somebody's it counts."""
        found = self._tool("ldapsearch", "-LLL", *self._admin(), "-b", dn(uid), "-s", "base", "pwdFailureTime")
        return found.count("pwdFailureTime:")

    def forget_failures(self, uid: str) -> None:
        if self.failures(uid):
            self.change(uid, "userPassword", PASSWORD)  # a reset

    def settings(self, **changes: object) -> DirectorySettings:
        values: Mapping[str, object] = {
            "kind": KINDS["openldap"],
            "servers": (self.starttls,),
            "authority": self.authority.file,
            "account": SERVICE,
            "password": SERVICE_PASSWORD,
            "base": BASE,
            "organisers": ORGANISERS,
            "auditors": AUDITORS,
        }
        return DirectorySettings(**{**values, **changes})

    def _admin(self) -> list[str]:
        return ["-x", "-H", f"ldap://{self.address}:{self.ports[0]}", "-ZZ", "-D", ROOT, "-w", ROOT_PASSWORD]

    def _tool(self, *command: str, said: str = "") -> str:
        settings = os.environ | {"LDAPTLS_CACERT": str(self.authority.file), "LDAPTLS_REQCERT": "allow"}
        done = subprocess.run(
            command, input=said, text=True, capture_output=True, check=False, env=settings, timeout=60
        )
        assert not done.returncode, done.stderr
        return done.stdout


EVA, RUT, ANNA, BO = "eva@example.org", "rut@example.org", "anna@example.org", "bo@example.org"
ENTRIES = (
    person("eva", "Eva Ek", EVA),
    person("rut", "Rut Revisor", RUT),
    person("anna", "Anna Lindberg", ANNA, "anna.lindberg@example.org", mobile="070-174 06 05"),
    person("bo", "Bo Åström (konsult)", BO, mobile="+46 70 174 06 06"),
    person("two", "Tvilling", "twins@example.org"),
    person("three", "Tvilling", "twins@example.org"),
    group(ORGANISERS, dn("eva")),
    group(AUDITORS, dn("rut")),
)


@contextmanager
def running(folder: Path, *entries: str, **place: object) -> Iterator[Slapd]:
    folder.mkdir(parents=True, exist_ok=True)
    slapd = Slapd(folder, Authority(folder), **place)
    slapd.prepare(*(entries or ENTRIES))
    slapd.start()
    try:
        yield slapd
    finally:
        slapd.stop()


@contextmanager
def client(settings: DirectorySettings) -> Iterator[Ldap]:
    ldap = Ldap(settings)
    try:
        yield ldap
    finally:
        ldap.close()


@asynccontextmanager
async def installation(folder: Path, slapd: Slapd) -> AsyncIterator[World]:
    """A whole one with the directory, and a class `internal` that takes its passwords and has no waiting room."""
    with client(slapd.settings()) as ldap:
        async with build(folder, durable=False, ldap=ldap) as world:
            rules = world.ground.policy.of("internal")
            for purpose in Purpose:
                accepted = (*rules.requirement(purpose).methods, Method.LDAP)
                world.change_class(**{purpose: replace(rules.requirement(purpose), methods=accepted)})
            world.change_class(waiting_room=False)
            yield world
