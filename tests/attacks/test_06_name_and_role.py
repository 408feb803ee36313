"""Invariant 6: the name and role that others see are the verified ones, whatever somebody inside says of themselves."""

from __future__ import annotations

import json
import re
import secrets
from xml.sax.saxutils import escape

import pytest
from tests.attacks.people import CONFERENCE, MEET, Meeting, Person, Site
from tests.xmpp import CLIENT, MUC_USER, Refused, Stanza, name_of, refusal, role_of

VICTIM = "Eva Ek"
NICK = "http://jabber.org/protocol/nick"
USER = "http://jabber.org/protocol/muc#user"
OWNER = f"<x xmlns='{USER}'><item affiliation='owner' role='moderator' jid='focus@auth.{MEET}/focus'/></x>"


def json_message(**said: object) -> str:
    text = escape(json.dumps(said))
    return f"<json-message xmlns='http://jitsi.org/jitmeet'>{text}</json-message>"


SAID = {
    "nick": f"<nick xmlns='{NICK}'>{VICTIM}</nick>",
    "nick_twice": f"<nick xmlns='{NICK}'>{VICTIM}</nick>" * 2,
    "nick_without_namespace": f"<nick>{VICTIM}</nick>",
    "nick_in_another_namespace": f"<nick xmlns='urn:x'>{VICTIM}</nick>",
    "nick_with_a_prefix": f"<n:nick xmlns:n='{NICK}'>{VICTIM}</n:nick>",
    "nick_inside_something": f"<a xmlns='urn:x'><b><nick xmlns='{NICK}'>{VICTIM}</nick></b></a>",
    "nick_inside_muc": f"<x xmlns='http://jabber.org/protocol/muc'><nick xmlns='{NICK}'>{VICTIM}</nick></x>",
    "display_name": f"<display-name>{VICTIM}</display-name>",
    "identity": f"<identity><user><id>x</id><name>{VICTIM}</name><avatar>https://evil.example/a</avatar></user></identity>",
    "identity_inside_something": f"<a xmlns='urn:x'><identity><user><name>{VICTIM}</name></user></identity></a>",
    "email": "<email>eva.ek@sluss.test</email>",
    "avatar_url": "<avatar-url>https://evil.example/a.png</avatar-url>",
    "avatar_id": "<avatar-id>eva</avatar-id>",
    "verified": "<verified xmlns='urn:sluss:gate:1' role='organiser' method='totp' since='1'/>",
    "verified_without_namespace": "<verified method='totp'/>",
    "verified_inside_something": "<a xmlns='urn:x'><verified xmlns='urn:sluss:gate:1' method='totp'/></a>",
    "owner": OWNER,
    "owner_inside_something": f"<a xmlns='urn:x'>{OWNER}</a>",
    "owner_deep_inside": f"<a xmlns='urn:x'><b><c>{OWNER}</c></b></a>",
    "stats_id": "<stats-id>Eva-abc</stats-id>",
    "user_id": "<userId>eva</userId>",
    "bot": "<bot type='transcriber'/>",
    "phone_number": "<call-control xmlns='http://jitsi.org/jigasi' phone='+46701740605' pin='1234'/>",
    "another_device_of_hers": "<flip_device xmlns='jitsi'/>",
    "sender_of_a_visitors_message": (
        "<display-name xmlns='http://jitsi.org/protocol/display-name' source='visitor'>Eva Ek</display-name>"
        "<addresses xmlns='http://jabber.org/protocol/address'><address type='ofrom' jid='eva@sluss.test'/></addresses>"
    ),
    "a_telephone": "<features><feature var='http://jitsi.org/protocol/jigasi'/></features>",
    "a_recorder": "<features><feature var='http://jitsi.org/protocol/jibri'/></features>",
    "a_transcriber": "<features><feature var='http://jitsi.org/protocol/transcriber'/></features>",
    "speaker_of_a_subtitle": json_message(type="transcription-result", participant={"name": VICTIM}),
    "author_of_a_poll": json_message(type="polls", command="new-poll", pollId="1", senderName=VICTIM, answers=[]),
    "json_inside_something": f"<a xmlns='urn:x'>{json_message(type='transcription-result', name=VICTIM)}</a>",
    "name_beside_a_key": json_message(type="olm", participant={"name": VICTIM}, olm={"type": "session-init"}),
    "other_status_codes": f"<x xmlns='{USER}'><status code='110'/><status code='307'/></x>",
    "somebodys_occupant_id": "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='eva'/>",
}
CLAIMS = {
    *("addresses", "avatar-id", "avatar-url", "bot", "call-control", "display-name", "email", "flip_device"),
    *("identity", "stats-id", "userId", "verified"),
}
JSON = "{http://jitsi.org/jitmeet}json-message"
MACHINES = re.compile(r"http://jitsi\.org/protocol/(?:jibri|jigasi|transcriber)")


def shows_only(stanza: Stanza, name: str) -> bool:
    """Whether a stanza bears this name and no claim of its sender's."""
    said = {element.tag.rpartition("}")[2] for element in stanza.iter()}
    machine = any(MACHINES.match(element.get("var", "")) for element in stanza.iter())
    return name_of(stanza) == name and not said & CLAIMS and not machine and VICTIM not in "".join(stanza.itertext())


def of(stanzas: list[Stanza], nick: str, kind: str = "presence") -> list[Stanza]:
    return [s for s in stanzas if s.tag == CLIENT + kind and s.get("from", "").endswith(f"/{nick}")]


@pytest.mark.parametrize("said", SAID)
async def test_presence_shows_the_verified_name_and_role_although_it_says(
    site: Site, anna: Person, bo: Person, said: str
):
    """On entering, and again inside."""
    async with bo.enter() as other, site.connect(anna.ticket()) as client:
        await client.join("aaaa0001", extra=SAID[said])
        await client.send(f"<presence to='{client.room_jid}/aaaa0001'>{SAID[said]}<status>here</status></presence>")
        await other.wait_for(lambda s: s.findtext(f"{CLIENT}status") == "here")
        shown = of(other.received, "aaaa0001")
        assert len(shown) == 2
        for presence in shown:
            assert shows_only(presence, anna.name)
            items = list(presence.iter(f"{MUC_USER}item"))
            assert [(i.get("affiliation"), i.get("role"), i.get("jid")) for i in items] == [
                ("none", "participant", None)
            ]


@pytest.mark.parametrize("kind", ["groupchat", "chat"])
@pytest.mark.parametrize("said", SAID)
async def test_message_shows_the_verified_name_although_it_says(
    site: Site, anna: Person, bo: Person, said: str, kind: str
):
    async with bo.enter("bbbb0001") as other, anna.enter("aaaa0001") as client:
        to = client.room_jid if kind == "groupchat" else f"{client.room_jid}/bbbb0001"
        await client.send(f"<message to='{to}' type='{kind}'>{SAID[said]}<body>Hello</body></message>")
        message = await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Hello")
        assert message.get("from") == f"{client.room_jid}/aaaa0001"
        assert shows_only(message, anna.name)
        assert not list(message.iter(f"{MUC_USER}item"))


async def test_who_enters_later_sees_the_verified_name_too(site: Site, anna: Person, bo: Person):
    async with site.connect(anna.ticket()) as client:
        await client.join("aaaa0001", extra=SAID["nick"] + SAID["identity"])
        async with bo.enter() as later:
            [shown] = of(later.received, "aaaa0001")
            assert shows_only(shown, anna.name)


MEDIA = {
    f"{CLIENT}videomuted": "<videomuted>true</videomuted>",
    f"{CLIENT}SourceInfo": "<SourceInfo>{&quot;aaaa0001-a0&quot;:{&quot;muted&quot;:false}}</SourceInfo>",
    f"{CLIENT}videoType": "<videoType>camera</videoType>",
    f"{CLIENT}jitsi_participant_e2ee.idKey": "<jitsi_participant_e2ee.idKey>a+/b</jitsi_participant_e2ee.idKey>",
    f"{CLIENT}jitsi_participant_raisedHand": "<jitsi_participant_raisedHand>1</jitsi_participant_raisedHand>",
    f"{CLIENT}features/{CLIENT}feature": "<features><feature var='https://jitsi.org/meet/e2ee'/></features>",
    "{http://jitsi.org/jitmeet/audio}audiomuted": (
        "<audiomuted xmlns='http://jitsi.org/jitmeet/audio'>false</audiomuted>"
    ),
    "{http://jabber.org/protocol/caps}c": "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='x' ver='y'/>",
}


async def test_what_media_and_keys_need_passes(site: Site, anna: Person, bo: Person):
    """Otherwise nothing above would say much: a gate that passes nothing on would do as well."""
    async with bo.enter("bbbb0001") as other, site.connect(anna.ticket()) as client:
        await client.join("aaaa0001", extra="".join(MEDIA.values()))
        [shown] = of(other.received, "aaaa0001")
        assert [path for path in MEDIA if shown.find(path) is None] == []
        assert "aaaa0001-a0" in shown.findtext(f"{CLIENT}SourceInfo")
        key = json_message(type="olm", olm={"type": "key-info", "data": {"ciphertext": {"type": 0, "body": "a+/b"}}})
        await client.send(f"<message to='{client.room_jid}/bbbb0001' type='chat'>{key}</message>")
        got = await other.wait_for(lambda s: s.find(JSON) is not None)
        assert json.loads(got.findtext(JSON))["olm"]["data"]["ciphertext"]["body"] == "a+/b"


async def test_nick_does_not_change_during_a_stay(site: Site, anna: Person, bo: Person):
    async with bo.enter() as other, anna.enter("aaaa0001") as client:
        with pytest.raises(Refused) as no:
            await client.join("aaaa0002")
        assert no.value.condition == "not-acceptable"
        await other.ping()
        assert of(other.received, "aaaa0001")
        assert not of(other.received, "aaaa0002")


@pytest.mark.parametrize("nick", ["focus", "ｆｏｃｕｓ", "fo\u00adcus"])
async def test_nobody_is_called_focus(site: Site, anna: Person, nick: str):
    """Jitsi's clients obey whoever is."""
    async with site.connect(anna.ticket()) as client:
        with pytest.raises((Refused, TimeoutError)):
            await client.join(nick, wait=1)
        await client.ping()
        assert not of(client.received, "focus") or of(client.received, "focus")[0].get("type") == "error"


async def test_participant_stays_participant_and_organiser_is_owner(meeting: Meeting, site: Site, anna: Person):
    ticket = meeting.organiser.ticket(meeting)
    async with site.connect(ticket) as organiser, anna.enter("aaaa0001") as client:
        mine = await organiser.join("cccc0001")
        assert role_of(mine) == ("owner", "moderator")
        await client.ping()
        assert role_of(of(client.received, "aaaa0001")[0]) == ("none", "participant")
        assert name_of(of(client.received, "cccc0001")[0]) == meeting.organiser.name


ADMIN, OWNERS = "http://jabber.org/protocol/muc#admin", "http://jabber.org/protocol/muc#owner"


def setting(name: str, value: str) -> str:
    return (
        f"<query xmlns='{OWNERS}'><x xmlns='jabber:x:data' type='submit'>"
        "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
        f"<field var='{name}'><value>{value}</value></field></x></query>"
    )


ORDERS = {
    "make_oneself_owner": ("set", f"<query xmlns='{ADMIN}'><item affiliation='owner' jid='ME'/></query>"),
    "make_oneself_moderator": ("set", f"<query xmlns='{ADMIN}'><item role='moderator' nick='aaaa0001'/></query>"),
    "make_oneself_admin_by_nick": (
        "set",
        f"<query xmlns='{ADMIN}'><item affiliation='admin' nick='aaaa0001'/></query>",
    ),
    "ban_another": ("set", f"<query xmlns='{ADMIN}'><item affiliation='outcast' jid='YOU'/></query>"),
    "kick_another": ("set", f"<query xmlns='{ADMIN}'><item role='none' nick='bbbb0001'/></query>"),
    "mute_another": ("set", f"<query xmlns='{ADMIN}'><item role='visitor' nick='bbbb0001'/></query>"),
    "several_at_once": (
        "set",
        f"<query xmlns='{ADMIN}'><item role='none' nick='bbbb0001'/><item affiliation='owner' jid='ME'/></query>",
    ),
    "read_the_owners": ("get", f"<query xmlns='{ADMIN}'><item affiliation='owner'/></query>"),
    "read_the_settings": ("get", f"<query xmlns='{OWNERS}'/>"),
    "set_a_password": ("set", setting("muc#roomconfig_roomsecret", "secret")),
    "members_only": ("set", setting("muc#roomconfig_membersonly", "1")),
    "a_lobby": ("set", setting("muc#roomconfig_lobbypassword", "secret")),
    "moderated": ("set", setting("muc#roomconfig_moderatedroom", "1")),
    "persistent": ("set", setting("muc#roomconfig_persistentroom", "1")),
    "public": ("set", setting("muc#roomconfig_publicroom", "1")),
    "whois_anyone": ("set", setting("muc#roomconfig_whois", "anyone")),
    "default_settings": ("set", f"<query xmlns='{OWNERS}'><x xmlns='jabber:x:data' type='submit'/></query>"),
    "destroy": ("set", f"<query xmlns='{OWNERS}'><destroy/></query>"),
    "destroy_for_another": ("set", f"<query xmlns='{OWNERS}'><destroy jid='x@{CONFERENCE}'/></query>"),
    "register_a_nick": ("set", "<query xmlns='jabber:iq:register'><nick>Eva</nick></query>"),
    "expel_as_the_bridge_does": (
        "set",
        "<expel xmlns='urn:sluss:gate:1' room='ROOM' username='YOURS' text='x'/>",
    ),
    "end_as_the_bridge_does": ("set", "<end xmlns='urn:sluss:gate:1' room='ROOM'/>"),
    "call_the_roll": ("get", "<roll xmlns='urn:sluss:gate:1'/>"),
    "read_the_archive": ("set", "<query xmlns='urn:xmpp:mam:2'/>"),
    "read_a_vcard": ("get", "<vCard xmlns='vcard-temp'/>"),
    "set_a_vcard": ("set", "<vCard xmlns='vcard-temp'><FN>Eva Ek</FN></vCard>"),
    "run_a_command": (
        "set",
        "<command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#announce'/>",
    ),
}
AS = ["participant", "organiser"]


@pytest.mark.parametrize("who", AS)
@pytest.mark.parametrize("order", ORDERS)
async def test_nobody_inside_may(site: Site, meeting: Meeting, order: str, who: str):
    """The organiser neither: what they may do goes through the portal, where it is checked and recorded."""
    (anna, bo), (kind, payload) = meeting.people, ORDERS[order]
    ticket = meeting.organiser.ticket(meeting) if who == "organiser" else anna.ticket()
    async with bo.enter("bbbb0001") as other, site.connect(ticket) as client:
        role = role_of(await client.join("aaaa0001"))
        payload = payload.replace("ME", client.jid).replace("YOURS", other.jid.partition("@")[0])
        payload = payload.replace("YOU", other.jid).replace("ROOM", client.room)
        for to in (client.room_jid, CONFERENCE):
            with pytest.raises(Refused) as no:
                await client.iq(kind, to, payload)
            assert no.value.condition in {"forbidden", "not-allowed"}
        await other.ping()
        assert not other.closed.is_set()
        assert not [s for s in other.received if s.get("type") == "unavailable"]
        assert role_of(of(other.received, "aaaa0001")[-1]) == role
        assert len(of(other.received, "aaaa0001")) == 1
        async with anna.enter():  # no password, no list of members, no ban
            pass


INVITED = "guest@sluss.test"
MESSAGES = {
    "invite_somebody": f"<message to='ROOM'><x xmlns='{USER}'><invite to='{INVITED}'/></x></message>",
    "invite_directly": f"<message to='{INVITED}'><x xmlns='jabber:x:conference' jid='ROOM'/></message>",
    "ask_for_voice": (
        "<message to='ROOM'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>"
        "<value>http://jabber.org/protocol/muc#request</value></field></x></message>"
    ),
    "change_the_subject": "<message to='ROOM' type='groupchat'><subject>Mine</subject></message>",
    "write_to_a_real_address": "<message to='YOU'><body>Hi</body></message>",
    "write_to_the_bridge": f"<message to='sluss.{MEET}'><body>Hi</body></message>",
    "write_to_the_host": f"<message to='{MEET}'><body>Hi</body></message>",
    "write_to_another_room": f"<message to='{'0' * 32}@{CONFERENCE}' type='groupchat'><body>Hi</body></message>",
    "announce_to_all": f"<message to='{MEET}/announce/all'><body>Hi</body></message>",
    "write_to_lobby": f"<message to='lobby.{MEET}'><x xmlns='http://jitsi.org/jitmeet' room='ROOM'/></message>",
    "create_a_breakout_room": (
        f"<message to='breakout.{MEET}'><breakout_rooms xmlns='http://jitsi.org/jitmeet'"
        " type='features/breakout-rooms/add' subject='x'/></message>"
    ),
    "moderate_by_avmoderation": (
        f"<message to='avmoderation.{MEET}'><av_moderation xmlns='http://jitsi.org/jitmeet' enable='true'"
        " room='0@conference.meet.sluss.test'/></message>"
    ),
    "end_by_endconference": (
        f"<message to='endconference.{MEET}'><end_conference xmlns='x' room='{'0' * 32}@{CONFERENCE}'/></message>"
    ),
    "end_for_all_by_endconference": (
        f"<message to='endconference.{MEET}'><end_conference xmlns='http://jitsi.org/jitmeet' room='ROOM'/></message>"
    ),
    "set_metadata": (
        f"<message to='metadata.{MEET}'><room_metadata xmlns='http://jitsi.org/jitmeet' room='ROOM'>"
        "{&quot;key&quot;:&quot;moderators&quot;,&quot;data&quot;:[]}</room_metadata></message>"
    ),
    "make_a_poll": f"<message to='polls.{MEET}'>{json_message(type='polls', command='new-poll')}</message>",
    "speak_in_the_statistics": (
        f"<message to='speakerstats.{MEET}'><speakerstats xmlns='http://jitsi.org/jitmeet' room='ROOM'/></message>"
    ),
    "promote_by_visitors": f"<message to='visitors.{MEET}'><visitors xmlns='jitsi:visitors'/></message>",
}


@pytest.mark.parametrize("message", MESSAGES)
async def test_participant_cannot_by_message(site: Site, anna: Person, bo: Person, message: str):
    async with bo.enter("bbbb0001") as other, anna.enter("aaaa0001") as client:
        mark = secrets.token_hex(4)
        sent = MESSAGES[message].replace("ROOM", client.room_jid).replace("YOU", other.jid)
        since = len(other.received)
        await client.send(sent.replace("<message ", f"<message id='{mark}' ", 1))
        answer = await client.wait_for(lambda s: s.get("id") == mark)
        assert refusal(answer).condition == "forbidden"
        await other.ping()
        assert not [s for s in other.received[since:] if s.tag == f"{CLIENT}message"]
        await client.send(f"<message to='{client.room_jid}' type='groupchat'><body>honest</body></message>")
        await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "honest")


@pytest.mark.parametrize("kind", ["subscribe", "subscribed", "probe", "unsubscribe", "error"])
@pytest.mark.parametrize("to", ["YOU", "BARE", f"focus@auth.{MEET}", f"sluss.{MEET}", MEET])
async def test_presence_does_not_reach_real_addresses(site: Site, anna: Person, bo: Person, kind: str, to: str):
    async with bo.enter() as other, anna.enter() as client:
        await other.ping()
        since = len(other.received)
        to = to.replace("YOU", other.jid).replace("BARE", other.jid.partition("/")[0])
        await client.send(f"<presence to='{to}' type='{kind}'/>")
        await client.ping()
        await other.ping()
        assert not [s for s in other.received[since:] if s.tag == f"{CLIENT}presence"]


async def test_leaving_for_somebody_else_does_not_work(site: Site, anna: Person, bo: Person):
    async with bo.enter("bbbb0001") as other, anna.enter("aaaa0001") as client:
        await client.send(f"<presence to='{client.room_jid}/bbbb0001' type='unavailable'/>")
        await client.ping()
        await other.ping()
        assert not [s for s in of(other.received, "bbbb0001") if s.get("type") == "unavailable"]
        await other.send(f"<message to='{other.room_jid}' type='groupchat'><body>still here</body></message>")
        await other.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "still here")
