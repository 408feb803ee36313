"""Admin commands. An expected error is one line on standard error and exit code 78 (EX_CONFIG) or 1."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from zoneinfo import ZoneInfo

import click
from prometheus_client import CollectorRegistry

from sluss import __version__, logs
from sluss.config import DEFAULT_PATH, Credentials, Settings, load_credentials, load_settings
from sluss.domain import drafts
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method
from sluss.domain.audit import ADMIN, GENESIS, Entry, Head
from sluss.domain.errors import ConfigError, InvalidInput, SlussError
from sluss.domain.explain import explain
from sluss.domain.policy import LANGUAGES, Policy
from sluss.factors import PARTICIPANT_METHODS
from sluss.policy_file import POLICY_PATH, installed_policy

if TYPE_CHECKING:
    from sluss.services import Services


RING = Path("/etc/sluss/credentials/ticket-keys")
POLICY = "sluss.policy"
"""Under which the context keeps the path that --policy names."""


class _Command(click.Group):
    """Turns expected errors into one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"sluss: {error}", err=True)
            ctx.exit(os.EX_CONFIG)
        except SlussError as error:
            click.echo(f"sluss: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Command, help="The auth-bridge of Sluss.")
@click.version_option(__version__)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="The settings file.",
)
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    help=f"The policy.  [default: {POLICY_PATH} if it is there, or else the one that Sluss comes with]",
)
@click.pass_context
def main(ctx: click.Context, path: Path, policy_path: Path | None) -> None:
    """Hold the paths for the commands; each reads only what it needs."""
    ctx.obj = path
    ctx.meta[POLICY] = policy_path


@main.command()
@click.pass_obj
def serve(path: Path) -> None:
    """Run the bridge."""
    from sluss import app  # noqa: PLC0415 (commands that need no server start without it)

    settings, credentials = _load(path)
    policy = _policy()
    registry = CollectorRegistry()
    logs.configure(settings.log.level, settings.log.format, registry)
    asyncio.run(app.serve(settings, credentials, policy, registry))


@main.command()
@click.option("--without-credentials", is_flag=True, help="Check the file alone.")
@click.pass_obj
def check(path: Path, without_credentials: bool) -> None:
    """Check settings, policy and secrets; say the first thing that is wrong."""
    from sluss.keyring.tickets import TicketKeys  # noqa: PLC0415

    settings = load_settings(path)
    _policy()
    if settings.smartcard:
        from sluss.factors.smartcard import check_authorities  # noqa: PLC0415

        check_authorities(settings.smartcard.authorities)
    if not without_credentials:
        credentials = load_credentials(settings)
        TicketKeys(credentials.ticket_keys)
        if settings.bankid and credentials.bankid:
            from sluss.factors.bankid import mutual_tls  # noqa: PLC0415

            mutual_tls(settings.bankid.authority, *credentials.bankid)
        if settings.ldap:
            from sluss.app import directory_client  # noqa: PLC0415

            directory_client(settings, credentials)
    click.echo("ok")


@main.group()
def database() -> None:
    """The store's schema."""


@database.command()
@click.pass_obj
def upgrade(path: Path) -> None:
    """Bring the database to this version's schema."""
    from sluss.store.database import upgrade as run  # noqa: PLC0415

    click.echo(f"schema {run(load_settings(path).database)}")


@main.group()
def keys() -> None:
    """Ticket keys."""


@keys.command()
@click.argument("directory", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Make the first ticket key in DIRECTORY, unless there is one."""
    from sluss.keyring.ring import create_first_key  # noqa: PLC0415

    kid, created = create_first_key(directory)
    click.echo(f"{'created' if created else 'exists'} {kid}")


_ring = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=RING,
    show_default=True,
    help="Where the keys are.",
)


@keys.command("list")
@_ring
def keys_list(directory: Path) -> None:
    """Print each key and its state: active signs, retired still checks, archived checks attendance records only."""
    from sluss.keyring.ring import read_ring  # noqa: PLC0415

    for file in read_ring(directory):
        click.echo(f"{file.kid}\t{file.state}")


@keys.command("rotate")
@_ring
def keys_rotate(directory: Path) -> None:
    """Have a new key sign, and retire the one before. `load` tells the running bridge."""
    from sluss.keyring.ring import rotate  # noqa: PLC0415

    click.echo(f"active {rotate(directory, datetime.now(UTC))}")


@keys.command("archive")
@_ring
@click.option("--wait", is_flag=True, help="Wait until no ticket can need one, a little more than a minute.")
def keys_archive(directory: Path, wait: bool) -> None:
    """Let retired keys check attendance records only. Exit code 75 (EX_TEMPFAIL) while a ticket may still need one."""
    from sluss.keyring.ring import archive  # noqa: PLC0415

    while True:
        archived, left = archive(directory, datetime.now(UTC))
        for kid in archived:
            click.echo(f"archived {kid}")
        if not (wait and left):
            break
        time.sleep(1)
    if left:
        click.echo(f"sluss: tickets of a retired key may be in use for {left.seconds + 1} s", err=True)
        raise SystemExit(os.EX_TEMPFAIL)


@keys.command("revoke")
@_ring
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.argument("kids", nargs=-1, metavar="[KID]…")
def keys_revoke(directory: Path, every: bool, kids: tuple[str, ...]) -> None:
    """Remove keys: what they signed is worth nothing, attendance records too. `load` tells the running bridge."""
    from sluss.keyring.ring import revoke  # noqa: PLC0415

    if every == bool(kids):
        raise click.UsageError("name keys, or say --all")
    click.echo(f"active {revoke(directory, kids, datetime.now(UTC))}")


@keys.command("load")
@_ring
@click.pass_obj
def keys_load(path: Path, directory: Path) -> None:
    """Hand the keys to the running bridge, as root. It signs and checks with them at once."""
    from sluss.keyring.ring import read_ring  # noqa: PLC0415

    if (at := load_settings(path).listen.keys) is None:
        raise ConfigError(f"{path}: listen.keys: is not set; restart the bridge")
    pems = {file.path.name: file.path.read_text("ascii") for file in read_ring(directory)}
    connection = HTTPConnection("bridge", timeout=10)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        connection.sock.connect(str(at))
        connection.request("PUT", "/", json.dumps(pems), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read(4096).decode()
    except (OSError, HTTPException) as error:
        raise SlussError(f"{at}: the bridge does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise SlussError(f"the bridge goes on with the keys it has: {text}")
    click.echo(f"active {text}")


@main.group()
def organiser() -> None:
    """Accounts: organisers, auditors and admins."""


@organiser.command("add")
@click.option("--name", required=True)
@click.option("--email", required=True)
@click.option(
    "--role",
    type=click.Choice([role.value for role in AccountRole]),
    default=AccountRole.ORGANISER.value,
    show_default=True,
    help="An organiser has meetings; an auditor sees logs and who attended; an admin looks after accounts.",
)
@click.option("--auditor", "role", flag_value="auditor", help="The same as --role auditor.")
@click.pass_obj
def organiser_add(path: Path, name: str, email: str, role: str) -> None:
    """Print a one-time link where the person enrols. It is good for seven days."""
    click.echo(_with_services(path, lambda services: services.organisers.add(name, email, AccountRole(role))))


@organiser.command("list")
@click.pass_obj
def organiser_list(path: Path) -> None:
    """Print every account and since when it is enrolled."""
    for who, enrolled in _with_services(path, lambda services: services.organisers.all()):
        since = f"enrolled {enrolled:%Y-%m-%d}" if enrolled else "not enrolled"
        click.echo(
            "\t".join([who.email, who.name, since, *([] if who.role is AccountRole.ORGANISER else [who.role.value])])
        )


@organiser.command("unlock")
@click.argument("email")
@click.pass_obj
def organiser_unlock(path: Path, email: str) -> None:
    """Let the organiser EMAIL sign in again at once, after too many wrong passwords or codes."""
    _with_services(path, lambda services: services.organisers.unlock(email))
    click.echo(f"unlocked {email}")


@organiser.command("hand-over")
@click.argument("email")
@click.pass_obj
def organiser_hand_over(path: Path, email: str) -> None:
    """Take away the organiser EMAIL's password here: from now on it is the one in the directory."""
    if load_settings(path).ldap is None:
        raise ConfigError(f"{path}: ldap: no directory is set up")
    _with_services(path, lambda services: services.directory.hand_over(email))
    click.echo(f"handed over {email}")


@organiser.command("reset")
@click.argument("email")
@click.pass_obj
def organiser_reset(path: Path, email: str) -> None:
    """Void all that EMAIL signs in with, end their sessions, and print a link to enrol by anew.

    No second admin is asked, whatever meetings they have: who may run this may do anything here.
    """
    click.echo(_with_services(path, lambda services: services.accounts.reset_by_host(email)))


@organiser.command("remove")
@click.argument("email")
@click.option("--successor", default="", metavar="EMAIL", help="Who has their meetings from now on.")
@click.pass_obj
def organiser_remove(path: Path, email: str, successor: str) -> None:
    """Remove the account EMAIL. Without a successor, its meetings to come are withdrawn. No second admin is asked."""
    _with_services(path, lambda services: services.accounts.remove_by_host(email, successor))
    click.echo(f"removed {email}")


@main.group()
def meeting() -> None:
    """Meetings."""


def _zone(_context: click.Context, _parameter: click.Parameter, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise click.BadParameter("must be one such as Europe/Stockholm") from None


def _at(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if value else None
    except ValueError:
        raise click.BadParameter("must be written as 2026-01-31T09:30") from None


@meeting.command("add")
@click.option("--organiser", "email", required=True, help="The organiser's e-mail address.")
@click.option("--title", required=True)
@click.option("--agenda", default="")
@click.option("--start", callback=_at, help="Date and time as 2026-01-31T09:30: local, or with an offset such as Z.")
@click.option(
    "--in",
    "in_minutes",
    type=click.IntRange(0, 366 * 24 * 60),
    help="Start so many minutes from now, instead of --start.",
)
@click.option("--minutes", type=int, default=60, show_default=True)
@click.option("--time-zone", default="Europe/Stockholm", show_default=True, callback=_zone)
@click.option("--class", "sensitivity", default="internal", show_default=True)
@click.option("--participant", "participants", multiple=True, help="“Name,e-mail,mobile”; may be repeated.")
@click.pass_obj
def meeting_add(
    path: Path,
    *,
    email: str,
    title: str,
    agenda: str,
    start: datetime | None,
    in_minutes: int | None,
    minutes: int,
    time_zone: ZoneInfo,
    sensitivity: str,
    participants: tuple[str, ...],
) -> None:
    """Create a meeting for an organiser and invite its participants. Prints its id."""
    settings = load_settings(path)
    if (start is None) == (in_minutes is None):
        raise click.UsageError("say either --start or --in")
    rows: list[tuple[str, str, str]] = []
    for index, row in enumerate(participants):
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) != 3:
            raise click.BadParameter(f"number {index + 1} must be “Name,e-mail,mobile”", param_hint="--participant")
        rows.append((cells[0], cells[1], cells[2]))

    async def work(services: Any) -> str:
        from sluss.app import utc_now  # noqa: PLC0415

        now = utc_now()
        if in_minutes is not None:
            at = (now + timedelta(minutes=in_minutes)).astimezone(time_zone)
        else:
            assert start is not None  # noqa: S101 - one of the two was given
            at = start.astimezone(time_zone) if start.tzinfo else start
        form = {
            "title": title,
            "agenda": agenda,
            "date": f"{at:%Y-%m-%d}",
            "time": f"{at:%H:%M}",
            "minutes": str(minutes),
            "time_zone": time_zone.key,
            "sensitivity": sensitivity,
        }
        who = await services.organisers.by_email(email)
        try:
            draft = drafts.parse_meeting(
                form, rows, region=settings.default_region, now=now, prefixes=settings.sms_rules.prefixes
            )
            made = await services.meetings.create(who, draft)
        except InvalidInput as error:
            field, _, row = error.field.partition("-")
            option = {"sensitivity": "--class", "date": "--start", "time": "--start", "time_zone": "--time-zone"}
            hint = f"--participant number {int(row) + 1}" if row else option.get(field, f"--{field}")
            raise click.BadParameter(error.public, param_hint=hint) from None
        return str(made.id)

    click.echo(_with_services(path, work))


@main.group("policy")
def policy_group() -> None:
    """What each sensitivity class asks for."""


@policy_group.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def policy_check(path: Path, file: Path | None) -> None:
    """Check a policy, the one in force or that in FILE; say the first thing that is wrong, or who cannot enter."""
    policy, methods = installed_policy(file) if file else _policy(), _methods(path)
    click.echo(f"ok {policy.source}")
    for one in policy.classes.values():
        if not one.ways_in(methods):
            have = ", ".join(sorted(methods))
            wanted = " or ".join([m for m in one.join.methods if m not in methods] or one.join.methods)
            click.echo(f"{one.name}: nobody can enter with what is set up ({have}): it takes {wanted}")


@policy_group.command("explain")
@click.argument("name", metavar="CLASS")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language.")
@click.pass_obj
def policy_explain(path: Path, name: str, lang: str) -> None:
    """Say in plain words what CLASS comes to: who gets in, how, how fresh, and what is kept how long."""
    from sluss.web.pages import Texts  # noqa: PLC0415
    from sluss.web.policy_words import in_words  # noqa: PLC0415

    policy = _policy()
    if name not in policy.classes:
        raise ConfigError(
            f"{policy.source}: classes.{name}: there is no such class; there are {', '.join(policy.classes)}"
        )
    for line in in_words(explain(policy.classes[name], _methods(path)), Texts(lang)):
        click.echo(line)


@main.group()
def audit() -> None:
    """The audit log."""


def _line(entry: Entry) -> str:
    """One entry for people: only what there is to say."""
    told = {"by": entry.actor, "for": entry.on_behalf, "subject": entry.subject, "assurance": entry.assurance}
    told |= {"request": entry.request_id, **entry.details}
    at = datetime.fromtimestamp(entry.at, UTC)
    words = [f"{name}={value}" for name, value in told.items() if value]
    return " ".join([str(entry.seq), f"{at:%Y-%m-%dT%H:%M:%SZ}", entry.action, entry.outcome, *words])


@audit.command("show")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="So many entries, the newest.")
@click.option("--meeting", "meeting_id", help="Only about the meeting with this id and the people invited to it.")
@click.pass_obj
def audit_show(path: Path, limit: int, meeting_id: str | None) -> None:
    """Print entries, oldest first."""

    async def work(services: "Services") -> list[Entry]:
        return await (services.audit.about(meeting_id, limit) if meeting_id else services.audit.newest(limit))

    for entry in _with_services(path, work):
        click.echo(_line(entry))


def _heads(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[Head]:
    try:
        return [Head.parse(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@audit.command("verify")
@click.option("--head", "heads", multiple=True, callback=_heads, help="SEQ:HASH noted elsewhere; may be repeated.")
@click.pass_obj
def audit_verify(path: Path, heads: list[Head]) -> None:
    """Check that no entry was changed, removed, moved or repeated. Exit code 1 if any was."""
    end, faults = _with_services(path, lambda services: services.audit.verify(heads))
    for fault in faults:
        click.echo(f"sluss: {fault}", err=True)
    if faults:
        raise SystemExit(1)
    click.echo(f"ok {end}")


@audit.command("export")
@click.option("--after", type=click.IntRange(0), default=0, help="Only entries after this number.")
@click.option(
    "--mark",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Only entries after the last that is noted in this file, and note the new last there.",
)
@click.pass_obj
def audit_export(path: Path, after: int, mark: Path | None) -> None:
    """Print every entry as a line of JSON, with its hash: it can be checked without any key."""
    noted = _read_mark(mark) if mark else Head(after, "")

    async def work(services: "Services") -> Head:
        last = Head(0, GENESIS)
        async for line in services.audit.lines(max(noted.seq - 1, 0)):
            if line.seq > noted.seq:
                click.echo(f'{{"seq":{line.seq},"prev":"{last.hash}","hash":"{line.hash}","entry":{line.entry}}}')
            elif mark and line.hash != noted.hash:
                break
            last = Head(line.seq, line.hash)
        if mark and last.seq < noted.seq:
            raise SlussError(
                f"audit: {mark} notes {noted}, which is not in the log: run sluss audit verify --head {noted}"
            )
        return last

    last = _with_services(path, work)
    if mark and last != noted:
        # Printed, then noted: what is cut off between the two is printed twice, and nothing never.
        new = mark.with_name(f"{mark.name}.new")
        new.write_text(f"{last}\n")
        new.replace(mark)


def _read_mark(mark: Path) -> Head:
    try:
        return Head.parse(mark.read_text("ascii"))
    except FileNotFoundError:
        return Head(0, GENESIS)
    except ValueError as error:
        raise ConfigError(f"{mark}: {error}") from None


@main.group()
def attendance() -> None:
    """Attendance records."""


@attendance.command("verify")
@click.argument("file", type=click.File(encoding="ascii", errors="replace"))
@click.pass_obj
def attendance_verify(path: Path, file: TextIO) -> None:
    """Check a signed attendance record and print what it says. Exit code 1 if it is not ours, or was altered."""
    from sluss.keyring.tickets import BadTicketError, TicketKeys  # noqa: PLC0415

    _, credentials = _load(path)
    try:
        claims = TicketKeys(credentials.ticket_keys).check_receipt(file.read().strip())
    except BadTicketError as error:
        click.echo(f"sluss: {file.name}: not signed by a key of this installation, or altered: {error}", err=True)
        raise SystemExit(1) from None
    click.echo(json.dumps(claims, indent=2, ensure_ascii=False))


def _load(path: Path) -> tuple[Settings, Credentials]:
    settings = load_settings(path)
    return settings, load_credentials(settings)


def _methods(path: Path) -> frozenset[Method]:
    """How participants can verify here; where there are no settings that can be read yet, how they can everywhere."""
    try:
        return load_settings(path).methods
    except ConfigError:
        return PARTICIPANT_METHODS


def _policy() -> Policy:
    """The policy in force."""
    return installed_policy(click.get_current_context().meta[POLICY])


def _with_services(path: Path, verb: Any) -> Any:
    from sluss import app  # noqa: PLC0415
    from sluss.services.audit import OPERATOR  # noqa: PLC0415

    settings, credentials = _load(path)
    policy = _policy()
    logs.configure("warning", settings.log.format, CollectorRegistry())

    async def work() -> Any:
        OPERATOR.set(ADMIN)
        async with app.services_of(settings, credentials, policy=policy) as (services, _):
            done: Coroutine[Any, Any, Any] = verb(services)
            return await done

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main())
