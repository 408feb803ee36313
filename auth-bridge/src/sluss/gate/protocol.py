"""The words of `urn:sluss:gate:1` on the wire: XML elements to typed values and back. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sluss.domain.gate import Change, Entry, GateEvent, Occupant, OccupantKind, Stage, Verdict

XMLNS = "urn:sluss:gate:1"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedError(ValueError):
    """A stanza is not as docs/gate-protocol.md says. The text names what is wrong, never its value."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """An `<authenticate/>`: whose ticket is this, may this XMPP session be?"""

    token: str
    room: str
    session: str
    transport: str
    address: str


@dataclass(frozen=True, slots=True)
class Roll:
    """A `<roll/>`: everybody inside, as of event `seq` of `epoch`."""

    epoch: str
    seq: int
    present: Sequence[Occupant]


def tag(name: str) -> str:
    """The qualified name of one of our elements."""
    return f"{{{XMLNS}}}{name}"


def local_name(node: Element) -> str:
    """An element's name without its namespace."""
    return node.tag.rpartition("}")[2]


def element(name: str, /, **attributes: str | int | None) -> Element:
    """One of our elements; attributes that are None are left out, characters XML cannot carry removed."""
    return Element(tag(name), {key: _clean(str(value)) for key, value in attributes.items() if value is not None})


def parse_authenticate(query: Element) -> Authentication:
    """Read `<authenticate/>`. Raises `MalformedError`."""
    token = query.findtext(tag("token"))
    if not token:
        msg = "authenticate without token"
        raise MalformedError(msg)
    return Authentication(
        token=token,
        room=_required(query, "room"),
        session=_required(query, "session"),
        transport=_required(query, "transport"),
        address=_required(query, "address"),
    )


def parse_admit(query: Element) -> Entry:
    """Read `<admit/>`. Raises `MalformedError`."""
    try:
        kind, stage = OccupantKind(_required(query, "kind")), Stage(_required(query, "stage"))
    except ValueError as error:
        msg = "admit with an unknown kind or stage"
        raise MalformedError(msg) from error
    return Entry(
        session=_required(query, "session"),
        room=_required(query, "room"),
        occupant=_required(query, "occupant"),
        kind=kind,
        stage=stage,
        again=query.get("again") == "true",
    )


def parse_events(events: Element) -> list[tuple[Change, GateEvent]]:
    """Read `<events/>`. Raises `MalformedError`."""
    epoch, known = _required(events, "epoch"), {tag(change): change for change in Change}
    return [(known[event.tag], _event(event, epoch)) for event in events if event.tag in known]


def _event(event: Element, epoch: str) -> GateEvent:
    return GateEvent(
        epoch=epoch,
        seq=_number(event, "seq"),
        room=_required(event, "room"),
        session=_required(event, "session"),
        occupant=_required(event, "occupant"),
        at=_number(event, "at"),
        reason=event.get("reason"),
    )


def parse_roll(answer: Element) -> Roll:
    """Read the IQ that answers a roll call. Raises `MalformedError`."""
    roll = _child(answer, "roll")
    return Roll(
        epoch=_required(roll, "epoch"),
        seq=_number(roll, "seq"),
        present=[
            Occupant(
                room=_required(line, "room"),
                session=_required(line, "session"),
                occupant=_required(line, "occupant"),
                at=_number(line, "at"),
            )
            for line in roll.findall(tag("occupant"))
        ],
    )


def parse_expelled(answer: Element) -> int:
    """Read the IQ that answers an expulsion: how many connections there were. Raises `MalformedError`."""
    return _number(_child(answer, "expelled"), "count")


def render_verdict(verdict: Verdict) -> Element:
    """Write `<verdict/>`. A refusal carries its reason and nothing about anybody."""
    if not verdict.allow:
        return element("verdict", allow="false", session=verdict.session, reason=verdict.reason)
    return element(
        "verdict",
        allow="true",
        session=verdict.session,
        username=verdict.username,
        name=verdict.name,
        role=verdict.role,
        features=" ".join(verdict.features) or None,
        enter="true" if verdict.enter else None,
    )


def _child(node: Element, name: str) -> Element:
    child = node.find(tag(name))
    if child is None:
        msg = f"no {name} in the answer"
        raise MalformedError(msg)
    return child


def _required(node: Element, name: str) -> str:
    value = node.get(name)
    if not value:
        msg = f"{local_name(node)} without {name}"
        raise MalformedError(msg)
    return value


def _number(node: Element, name: str) -> int:
    try:
        return int(_required(node, name))
    except MalformedError:
        raise
    except ValueError as error:
        msg = f"{name} is not a number"
        raise MalformedError(msg) from error


def _clean(text: str) -> str:
    return _NOT_XML.sub("", text)
