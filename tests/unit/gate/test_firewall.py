"""A ticket is for one room: whatever else a session addresses, it gets no further than its own connection."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.unit.gate.conftest import Connect, Script
from tests.unit.gate.prosody import COMPONENT, CONFERENCE, MEET
from tests.xmpp import CLIENT, Refused, open_stream, refusal

from sluss.domain.gate import Role

ADMIN = "http://jabber.org/protocol/muc#admin"
OWNER = "http://jabber.org/protocol/muc#owner"
JOIN = "<x xmlns='http://jabber.org/protocol/muc'/>"
NOT_SERVED = (
    "breakout",
    "conferenceduration",
    "endconference",
    "lobby",
    "metadata",
    "polls",
    "speakerstats",
    "visitors",
)
DISCO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"


@pytest.mark.parametrize(
    "to",
    [
        COMPONENT,
        f"someone@{COMPONENT}",
        CONFERENCE,
        f"other@{CONFERENCE}",
        f"other@{CONFERENCE}/aaaa0001",
        f"jvbbrewery@internal.auth.{MEET}/x",
        f"internal.auth.{MEET}",
        f"focus@auth.{MEET}",
        f"focus@auth.{MEET}/focus",
        f"auth.{MEET}",
        f"breakout.{MEET}",
        f"lobby.{MEET}",
        "example.org",
        "somebody@example.org",
    ],
)
async def test_nothing_outside_the_meeting_can_be_addressed(rules: Script, room: str, enter: Connect, to: str) -> None:
    rules.open_rooms.add("other")
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        for kind in ("get", "set"):
            with pytest.raises(Refused) as no:
                await client.iq(kind, to, DISCO)
            assert no.value.condition == "forbidden"
        for stanza in (
            f"<message id='m' to='{to}' type='chat'><body>Hello</body></message>",
            f"<message id='m' to='{to}' type='groupchat'><body>Hello</body></message>",
            f"<presence id='m' to='{to}'>{JOIN}</presence>",
            f"<presence id='m' to='{to}' type='subscribe'/>",
        ):
            since = len(client.received)
            await client.send(stanza)
            answer = await client.wait_for(lambda s: s.get("id") == "m", since=since)
            assert refusal(answer).condition == "forbidden"
    assert {occupant.split("/")[0] for _, _, occupant in rules.asked} == {client.jid.split("/")[0]}


async def test_people_cannot_be_addressed_but_in_the_room(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client, enter(rules.person(room)) as other:
        await client.join("aaaa0001")
        await other.join("aaaa0002")
        for to in (other.jid, other.jid.split("/")[0]):
            await client.send(f"<message id='m' to='{to}' type='chat'><body>Psst</body></message>")
            with pytest.raises(Refused):
                await client.iq("get", to, DISCO)
        await client.send(f"<message to='{client.room_jid}/aaaa0002' type='chat'><body>Hello</body></message>")
        await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Hello")
        assert not [s for s in other.received if s.findtext(f"{CLIENT}body") == "Psst"]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("get", f"<query xmlns='{OWNER}'/>"),
        ("set", f"<query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'/></query>"),
        ("set", f"<query xmlns='{OWNER}'><destroy/></query>"),
        ("get", f"<query xmlns='{ADMIN}'><item affiliation='owner'/></query>"),
        ("set", f"<query xmlns='{ADMIN}'><item affiliation='owner' jid='p-1@{MEET}'/></query>"),
        ("set", f"<query xmlns='{ADMIN}'><item role='moderator' nick='aaaa0001'/></query>"),
        ("set", f"<query xmlns='{ADMIN}'><item role='none' nick='aaaa0001'/></query>"),
        ("set", "<query xmlns='jabber:iq:register'/>"),
    ],
)
async def test_settings_of_the_room_are_out_of_reach_for_the_organiser_too(
    rules: Script, room: str, enter: Connect, kind: str, payload: str
) -> None:
    async with enter(rules.person(room, role=Role.ORGANISER)) as client:
        await client.join("aaaa0001")
        with pytest.raises(Refused) as no:
            await client.iq(kind, client.room_jid, payload)
        assert no.value.condition == "forbidden"
        await client.ping()
        assert not client.closed.is_set()


async def test_nobody_invites_from_inside(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room, role=Role.ORGANISER)) as client, enter(rules.person(room)) as other:
        await client.join("aaaa0001")
        guest = other.jid
        await client.send(
            f"<message id='m' to='{client.room_jid}'><x xmlns='http://jabber.org/protocol/muc#user'>"
            f"<invite to='{guest}'/></x></message>"
        )
        answer = await client.wait_for(lambda s: s.get("id") == "m")
        assert refusal(answer).condition == "forbidden"
        await other.ping()
        assert not [s for s in other.received if s.tag == f"{CLIENT}message"]


async def test_participant_cannot_set_the_subject(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        await client.send(f"<message id='m' to='{client.room_jid}' type='groupchat'><subject>Mine</subject></message>")
        answer = await client.wait_for(lambda s: s.get("id") == "m")
        assert answer.get("type") == "error"


async def test_what_a_meeting_needs_is_allowed(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client, enter(rules.person(room)) as other:
        await client.join("aaaa0001")
        await other.join("aaaa0002")
        await client.iq("get", MEET, DISCO)
        await client.iq("get", None, "<ping xmlns='urn:xmpp:ping'/>")
        await client.iq("get", client.room_jid, DISCO)
        await client.send(f"<message to='{client.room_jid}' type='groupchat'><body>Hello</body></message>")
        await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Hello")
        question = asyncio.create_task(client.iq("get", f"{client.room_jid}/aaaa0002", "<x xmlns='urn:example'/>"))
        asked = await other.wait_for(lambda s: s.find("{urn:example}x") is not None)
        await other.send(f"<iq type='result' id='{asked.get('id')}' to='{asked.get('from')}'/>")
        assert (await question).get("from") == f"{client.room_jid}/aaaa0002"


async def test_jitsis_parts_are_reached_about_the_own_room_only(rules: Script, room: str, enter: Connect) -> None:
    """They are not installed here: what is let through is answered by nobody, not by the firewall."""
    async with enter(rules.person(room)) as client:
        for to, about, passes in (
            ("focus", client.room_jid, True),
            ("focus", f"other@{CONFERENCE}", False),
            ("avmoderation", client.room_jid, False),  # takes messages, not IQs
        ):
            payload = f"<conference xmlns='http://jitsi.org/protocol/focus' room='{about}'/>"
            with pytest.raises(Refused) as no:
                await client.iq("set", f"{to}.{MEET}", payload)
            assert (no.value.condition != "forbidden") is passes
        for to, about, passes in (
            ("avmoderation", client.room_jid, True),
            ("avmoderation", f"other@{CONFERENCE}", False),
            *((part, client.room_jid, False) for part in NOT_SERVED),
        ):
            since = len(client.received)
            await client.send(
                f"<message id='m' to='{to}.{MEET}'><x xmlns='http://jitsi.org/jitmeet' room='{about}'/></message>"
            )
            answer = await client.wait_for(lambda s: s.get("id") == "m", since=since)
            assert (refusal(answer).condition != "forbidden") is passes


@pytest.mark.parametrize("role", list(Role))
async def test_where_a_class_has_no_chat_nobody_writes_and_clients_still_agree_on_keys(
    rules: Script, room: str, enter: Connect, role: Role
) -> None:
    person = rules.person(room, role=role)
    person.features = ()
    async with enter(person) as client, enter(rules.person(room)) as other:
        await client.join("aaaa0001")
        await other.join("aaaa0002")
        said = '{"type":"olm","olm":{"type":"key-info"}}'
        keys = f"<json-message xmlns='http://jitsi.org/jitmeet'>{said}</json-message>"
        for to, kind in ((client.room_jid, "groupchat"), (f"{client.room_jid}/aaaa0002", "chat")):
            for written in ("<body>Psst</body>", f"{keys}<body>Psst</body>", "<subject>Psst</subject>"):
                since = len(client.received)
                await client.send(f"<message id='m' to='{to}' type='{kind}'>{written}</message>")
                answer = await client.wait_for(lambda s: s.get("id") == "m", since=since)
                assert refusal(answer).condition == "forbidden"
            since = len(other.received)
            await client.send(f"<message to='{to}' type='{kind}'>{keys}</message>")
            await other.wait_for(lambda s: s.find("{http://jitsi.org/jitmeet}json-message") is not None, since=since)
        await client.send(f"<message id='poll' to='polls.{MEET}'><x xmlns='http://jitsi.org/jitmeet'/></message>")
        assert refusal(await client.wait_for(lambda s: s.get("id") == "poll")).condition == "forbidden"
        assert not [s for s in other.received if "Psst" in "".join(s.itertext())]


OLM = '{"type":"olm","olm":{"type":"session-init","data":{"idKey":"a+/b","keys":[1,2],"more":{"n":5}}}}'
NAMES = '{"type":"transcription-result","participant":{"name":"Eva Ek"}}'


async def test_keys_are_exchanged_and_no_other_json_passes(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client, enter(rules.person(room)) as other:
        await client.join("aaaa0001")
        await other.join("aaaa0002")
        for said, passes in (
            (OLM, True),
            (OLM.replace('"olm":{', '"participant":{"name":"Eva Ek"},"olm":{'), True),
            (NAMES, False),
            (NAMES[:-1] + ',"type":"olm"}', True),  # which is all that passes then
            (NAMES[:-1] + ',"__hash":["type","olm"]}', True),  # Prosody reads it so, a browser does not
            (NAMES[:-1], False),
            ("[]", False),
            ("7", False),
            ('["olm"]', False),
            ("[" * 100_000, False),
            ("", False),
        ):
            since = len(other.received)
            text = said.replace('"', "&quot;")
            message = f"<json-message xmlns='http://jitsi.org/jitmeet'>{text}</json-message><body>Hello</body>"
            await client.send(f"<message to='{client.room_jid}/aaaa0002' type='chat'>{message}</message>")
            await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Hello", since=since)
            [got] = [s.findtext("{http://jitsi.org/jitmeet}json-message") for s in other.received[since:]]
            assert (got is not None) is passes, said
            assert "Eva" not in (got or "")
            if said == OLM:
                assert json.loads(got) == json.loads(OLM)


@pytest.mark.parametrize("host", [f"auth.{MEET}", f"internal.auth.{MEET}", CONFERENCE, COMPONENT])
async def test_stream_from_the_web_to_another_host_is_told_no_way_to_sign_in(
    rules: Script, room: str, url: str, enter: Connect, host: str
) -> None:
    anna = rules.person(room)
    async with open_stream(url, host, headers={"Host": MEET}, room=room, token=anna.token) as client:
        await asyncio.wait_for(client.closed.wait(), 5)
        assert not [tag for s in client.received for tag in s.iter() if tag.tag.endswith("}mechanism")]
    async with enter(rules.person(room)) as client:
        await client.ping()
