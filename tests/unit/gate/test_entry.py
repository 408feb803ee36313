"""Nobody creates or enters a room without a yes, and inside everybody bears the verified name and role."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.gate.conftest import Connect, Script
from tests.xmpp import CLIENT, GATE, Client, Refused, Stanza, name_of, role_of

from sluss.domain.gate import OccupantKind, Refusal, Role, Stage
from sluss.gate import Gate


def seen_by(client: Client, nick: str, kind: str = "presence") -> list[Stanza]:
    """What `client` got from the occupant `nick`."""
    sender = f"{client.room_jid}/{nick}"
    return [s for s in client.received if s.tag == f"{CLIENT}{kind}" and s.get("from") == sender]


async def refused_join(client: Client, nick: str = "aaaa0001") -> tuple[str, str | None]:
    with pytest.raises(Refused) as no:
        await client.join(nick)
    return no.value.condition, no.value.reason


async def test_first_to_enter_is_asked_about_creating_the_room_too(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client, enter(rules.person(room)) as second:
        await client.join("aaaa0001")
        await second.join("aaaa0002")
        assert rules.asked == [
            (OccupantKind.PARTICIPANT, Stage.CREATE, client.jid),
            (OccupantKind.PARTICIPANT, Stage.JOIN, second.jid),
        ]


async def test_yes_to_the_ticket_lets_in_who_enters_at_once(rules: Script, room: str, enter: Connect) -> None:
    rules.admits_at_once = True
    async with enter(rules.person(room, role=Role.ORGANISER)) as client:
        mine = await client.join("aaaa0001")
    assert rules.asked == []
    assert (name_of(mine), role_of(mine)) == ("Anna Lindberg", ("owner", "moderator"))


async def test_yes_to_the_ticket_is_good_for_a_moment_only(rules: Script, room: str, enter: Connect) -> None:
    rules.admits_at_once = True
    async with enter(rules.person(room)) as client:
        await asyncio.sleep(1.1)  # the clock is Prosody's
        rules.refuse = Refusal.WITHDRAWN
        assert await refused_join(client) == ("forbidden", "withdrawn")


async def test_yes_to_the_ticket_lets_nobody_in_once_the_bridge_is_away(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    rules.admits_at_once = True
    async with enter(rules.person(room)) as client:
        await gate.stop()
        with pytest.raises(Refused):  # by which Prosody shows that it has noticed
            async with enter(rules.person(room)):
                pass
        assert await refused_join(client) == ("service-unavailable", "unavailable")


async def test_bridge_is_asked_about_who_comes_back_in_the_same_session(
    rules: Script, room: str, enter: Connect
) -> None:
    rules.admits_at_once = True
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        await client.leave()
        rules.refuse = Refusal.USED
        assert await refused_join(client, "aaaa0002") == ("forbidden", "used")
        assert rules.again == [True]


async def test_room_that_is_not_open_is_refused(rules: Script, room: str, enter: Connect) -> None:
    rules.open_rooms.clear()
    async with enter(rules.person(room)) as client:
        assert await refused_join(client) == ("forbidden", "not-open")
        rules.open_rooms.add(room)
        await client.join("aaaa0001")


async def test_room_that_is_not_open_is_refused_to_the_focus_too(rules: Script, room: str, focus: Client) -> None:
    rules.open_rooms.clear()
    focus.room, focus.domain = room, "meet.sluss.test"
    assert await refused_join(focus, "focus") == ("forbidden", "not-open")
    assert rules.asked == [(OccupantKind.FOCUS, Stage.CREATE, focus.jid)]


async def test_withdrawn_person_is_refused_at_the_room(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as withdrawn:
        await inside.join("aaaa0001")
        rules.refuse = Refusal.WITHDRAWN
        assert await refused_join(withdrawn, "aaaa0002") == ("forbidden", "withdrawn")
        await inside.ping()
        assert not seen_by(inside, "aaaa0002")


async def test_join_verdict_about_another_session_is_a_no(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        rules.answer_for = "somebody-elses-nonce"
        assert await refused_join(client) == ("service-unavailable", "unavailable")


async def test_first_presence_has_the_verified_name(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room, "Olle Organiser")) as inside, enter(rules.person(room)) as client:
        await inside.join("aaaa0001")
        mine = await client.join(
            "aaaa0002",
            extra="<nick xmlns='http://jabber.org/protocol/nick'>The Director</nick><nick>The Director</nick>"
            "<verified xmlns='urn:sluss:gate:1' role='organiser' method='bankid'/>"
            "<identity><user><name>The Director</name></user></identity>"
            "<avatar-url>https://example.org/face</avatar-url><email>director@example.org</email>",
        )
        theirs = await inside.wait_for(lambda s: s.get("from") == f"{inside.room_jid}/aaaa0002")
        olles = seen_by(client, "aaaa0001")[0]
    assert name_of(olles) == "Olle Organiser"
    for presence in (mine, theirs):
        assert name_of(presence) == "Anna Lindberg"
        assert not [e.tag for e in presence if e.tag.endswith(("verified", "identity", "avatar-url", "email"))]


@pytest.mark.parametrize("to_occupant", [True, False])
async def test_later_presence_cannot_change_the_name(
    rules: Script, room: str, enter: Connect, to_occupant: bool
) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as client:
        await inside.join("aaaa0001")
        await client.join("aaaa0002")
        to = f"{client.room_jid}/aaaa0002" if to_occupant else client.room_jid
        await client.send(
            f"<presence to='{to}'><nick xmlns='http://jabber.org/protocol/nick'>The Director</nick>"
            "<verified xmlns='urn:sluss:gate:1' method='bankid'/><identity/><status>changed</status></presence>"
        )
        later = await inside.wait_for(lambda s: s.findtext(f"{CLIENT}status") == "changed")
    assert name_of(later) == "Anna Lindberg"
    assert later.find(f"{GATE}verified") is None


@pytest.mark.parametrize("private", [True, False])
async def test_messages_bear_the_verified_name(rules: Script, room: str, enter: Connect, private: bool) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as client:
        await inside.join("aaaa0001")
        await client.join("aaaa0002")
        to, kind = (f"{client.room_jid}/aaaa0001", "chat") if private else (client.room_jid, "groupchat")
        await client.send(
            f"<message to='{to}' type='{kind}'><nick xmlns='http://jabber.org/protocol/nick'>The Director</nick>"
            "<display-name xmlns='http://jitsi.org/protocol/display-name' source='token'>The Director</display-name>"
            "<body>Hello</body></message>"
        )
        message = await inside.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Hello")
    assert message.get("from") == f"{inside.room_jid}/aaaa0002"
    assert name_of(message) == "Anna Lindberg"
    assert not [child.tag for child in message if child.tag.endswith("display-name")]


async def test_names_with_characters_that_xml_cannot_carry_do_not_break_the_gate(
    rules: Script, room: str, enter: Connect
) -> None:
    async with enter(rules.person(room, "A\x00n\x1bna <i>&\ufffe'\" Åsa")) as client:
        assert name_of(await client.join("aaaa0001")) == "Anna <i>&'\" Åsa"


@pytest.mark.parametrize("first", [True, False])
async def test_organiser_is_owner_and_moderator_from_the_first_presence(
    rules: Script, room: str, enter: Connect, first: bool
) -> None:
    async with (
        enter(rules.person(room)) as participant,
        enter(rules.person(room, "Olle", Role.ORGANISER)) as organiser,
    ):
        if first:
            mine = await organiser.join("aaaa0001")
            await participant.join("aaaa0002")
        else:
            await participant.join("aaaa0002")
            mine = await organiser.join("aaaa0001")
        await participant.ping()
        assert role_of(mine) == ("owner", "moderator")
        assert role_of(seen_by(participant, "aaaa0001")[0]) == ("owner", "moderator")


async def test_participant_who_creates_the_room_gets_no_role_from_it(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as first, enter(rules.person(room)) as second:
        assert role_of(await first.join("aaaa0001")) == ("none", "participant")
        assert role_of(await second.join("aaaa0002")) == ("none", "participant")
        assert role_of(seen_by(second, "aaaa0001")[0]) == ("none", "participant")


async def test_organiser_who_returns_as_a_participant_has_lost_the_role(
    rules: Script, room: str, enter: Connect
) -> None:
    person = rules.person(room, role=Role.ORGANISER)
    async with enter(rules.person(room)) as other, enter(person) as client:
        await other.join("aaaa0001")
        await client.join("aaaa0002")
        await client.leave()
        person.role = Role.PARTICIPANT
        assert role_of(await client.join("aaaa0002")) == ("none", "participant")


async def test_focus_owns_the_room_and_gives_no_roles(rules: Script, room: str, focus: Client, enter: Connect) -> None:
    focus.room, focus.domain = room, "meet.sluss.test"
    async with enter(rules.person(room)) as client:
        assert role_of(await focus.join("focus")) == ("owner", "moderator")
        await client.join("aaaa0001")
        bare = client.jid.split("/")[0]
        for item in (f"affiliation='owner' jid='{bare}'", "role='moderator' nick='aaaa0001'"):
            query = f"<query xmlns='http://jabber.org/protocol/muc#admin'><item {item}/></query>"
            with pytest.raises(Refused):
                await focus.iq("set", focus.room_jid, query)
        await client.ping()
        assert {role_of(presence) for presence in seen_by(client, "aaaa0001")} == {("none", "participant")}


async def test_nobody_poses_as_the_focus(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        assert await refused_join(client, "focus") == ("forbidden", "wrong-room")


async def test_nick_does_not_change_during_a_stay(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        assert await refused_join(client, "aaaa0002") == ("not-acceptable", None)


async def test_nick_of_somebody_else_is_taken(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as first, enter(rules.person(room)) as second:
        await first.join("aaaa0001")
        assert await refused_join(second, "aaaa0001") == ("conflict", None)


async def test_room_is_gone_when_its_creator_was_turned_away_for_the_nick(
    rules: Script, room: str, enter: Connect
) -> None:
    async with enter(rules.person(room)) as client:
        assert (await refused_join(client, "\u2003"))[1] is None  # an invisible nick: Prosody's own rule
        rules.asked.clear()
        await client.join("aaaa0001")
        assert [stage for _, stage, _ in rules.asked] == [Stage.CREATE]


async def test_who_waited_at_the_door_of_a_room_that_emptied_meanwhile_enters_it_anew(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as late:
        await inside.join("aaaa0001")
        rules.hold.clear()
        joining = asyncio.create_task(late.join("aaaa0002"))
        await rules.waiting.wait()
        await inside.leave()
        rules.hold.set()
        assert role_of(await joining) == ("none", "participant")


async def test_who_waited_at_the_door_of_a_room_that_was_ended_meanwhile_is_outside(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as late:
        await inside.join("aaaa0001")
        rules.hold.clear()
        joining = asyncio.create_task(late.join("aaaa0002"))
        await rules.waiting.wait()
        await gate.end(room, "")
        rules.hold.set()
        with pytest.raises(Refused, match="closed"):
            await joining


async def test_presence_to_the_room_itself_neither_creates_nor_enters_it(
    rules: Script, room: str, enter: Connect
) -> None:
    async with enter(rules.person(room)) as client, enter(rules.person(room)) as other:
        for member in (other, client):  # before there is a room, and after
            since = len(client.received)
            await client.send(
                f"<presence to='{client.room_jid}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            )
            answer = await client.wait_for(lambda s: s.tag == f"{CLIENT}presence", since=since)
            assert answer.get("type") == "error"
            await member.join(f"aaaa000{len(rules.asked)}")
        stages = [stage for _, stage, _ in rules.asked]
        assert stages == [Stage.CREATE, Stage.JOIN]


async def test_verdicts_of_two_who_come_at_once_make_one_room(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as first, enter(rules.person(room, "Bo")) as second:
        rules.hold.clear()
        for client, nick in ((first, "aaaa0001"), (second, "aaaa0002")):
            client.nick = nick
            await client.send(
                f"<presence to='{client.room_jid}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            )
        await rules.waiting.wait()
        rules.hold.set()
        for client, other in ((first, "aaaa0002"), (second, "aaaa0001")):
            await client.wait_for(lambda s, other=other: s.get("from", "").endswith(f"/{other}"))
