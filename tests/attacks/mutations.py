"""Removes one protection after the other on a provisioned host, and shows that an attack then gets through.

`./sluss mutations` tries all on a host of its own, with `--only WORD` those with that in their name; a full test run
tries SHORT. What several layers keep is removed from each of them at once: from outside nobody reaches the inner one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attacks.people import Site, ready
from tests.hosts.enclosure import outside
from tests.hosts.nspawn import cache_in_use

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = "nginx prosody coturn nftables sluss-bridge"

# fmt: off
# Where configuration is on the host, which role's template it was made from, and which unit takes it up
CONFIGURATION = {
    "prosody.cfg.lua": ("etc/prosody/prosody.cfg.lua", "prosody/templates/prosody.cfg.lua.j2", "prosody"),
    "nginx.conf": ("etc/nginx/nginx.conf", "web/templates/nginx.conf.j2", "nginx"),
    "turnserver.conf": ("etc/turnserver.conf", "turn/templates/turnserver.conf.j2", "coturn"),
    "coturn": ("etc/systemd/system/coturn.service.d/sluss.conf", "turn/templates/coturn.service.conf.j2", "coturn"),
    "nftables.conf": ("etc/nftables.conf", "firewall/templates/nftables.conf.j2", "nftables"),
    "bridge": ("etc/systemd/system/sluss-bridge.service", "bridge/templates/sluss-bridge.service.j2", "sluss-bridge"),
    "sluss": ("usr/local/bin/sluss", "bridge/templates/sluss.j2", "sluss-bridge"),
}
# A protection, in words; an attack that it stops; in which file which text goes, and what stands there then.
TABLE: list[tuple[Any, ...]] = [
    # 1, 2: links and proofs
    ("a link shows nothing", "01_link_shows_nothing::who_verified_sees_the_invitation_in_that_browser_only",
     ("services/participation.py", "if not tx.verifications.any_of(link_hash, session_hash):", "if False:"),
     ("services/participation.py", "latest(invitation.id, session_hash, purpose, now)", "seen_by(invitation.id)")),
    ("a withdrawn link sends no code", "01_link_shows_nothing::withdrawn_link_sends_nothing",
     ("services/verification.py", " or invitation.state is not InvitationState.LIVE")),
    ("a proof counts in its browser", "02_two_factors::verification_to_join_in_another_browser_gives_no_ticket_here",
     ("store/proof.py", 'verifications.c.session_hash == bindparam("session"),\n')),
    ("a proof counts for its purpose", "02_two_factors::one_verification_is_not_two[purposes0]",
     ("store/proof.py", 'verifications.c.purpose == bindparam("purpose"),\n')),
    ("a proof is fresh", "02_two_factors::old_verification_gives_no_ticket[301]",
     ("services/tickets.py", "is_fresh(verification.verified_at, now, rules.join.fresh)", "True")),
    ("who joins has seen", "02_two_factors::join_code_does_not_stand_in_for_having_seen_the_invitation",
     ("services/verification.py", "(seen is None or seen.subject != verification.subject)", "False")),
    ("a code takes five tries", "02_two_factors::right_code_after_five_wrong_ones_opens_nothing",
     ("factors/sms.py", "MAX_TRIES = 5", "MAX_TRIES = 50")),
    ("a code works once", "02_two_factors::code_works_once",
     ("services/participation.py", "tx.challenges.remove(key)", "pass")),
    ("an organiser proves it at the door", "02_two_factors::organiser_needs_a_fresh_code_before_entering",
     ("services/tickets.py", "self._organisers.prove(tx, record, code, now, [door], recovery=False)", "None")),
    ("an organiser enters own meetings", "02_two_factors::other_organiser_gets_no_ticket",
     ("services/tickets.py", " or meeting.organiser_id != record.organiser.id")),
    ("a new link takes the old one's proofs", "02_two_factors::replaced_link_gives_no_ticket",
     ("services/meetings.py", "tx.verifications.revoke(invitation.id)", "pass")),
    ("a new number takes the old one's proofs", "02_two_factors::proofs_by_a_number_that_was_changed_give_no_ticket",
     ("services/meetings.py", "tx.verifications.revoke(who, KNOWN_BY_NUMBER)", "pass")),
    # 3: tickets
    ("a ticket is signed", "03_forged_tickets::forged_ticket_opens_nothing[other_name_under_the_same_signature]",
     ("keyring/tickets.py", '"require": REQUIRED,',
      '"require": REQUIRED, "verify_signature": False, "verify_iss": True, "verify_aud": True,')),
    ("one algorithm", "03_forged_tickets::forged_ticket_opens_nothing[really_signed_as_PS256]",
     ("keyring/tickets.py", "[ALGORITHM],\n                issuer", '[ALGORITHM, "PS256"],\n                issuer')),
    ("a ticket names its key", "03_forged_tickets::forged_ticket_opens_nothing[kid_in_other_letters]",
     ("keyring/tickets.py", 'raise BadTicketError("unknown kid")', "key = self._ring.public[self.active_kid]")),
    ("a receipt is no ticket", "03_forged_tickets::forged_ticket_opens_nothing[really_signed_typ_of_a_receipt]",
     ("keyring/tickets.py", 'header.get("typ", TICKET) != kind', "False")),
    ("a ticket says who made it", "03_forged_tickets::forged_ticket_opens_nothing[really_signed_iss_of_another]",
     ("keyring/tickets.py", "issuer=issuer,")),
    ("a ticket expires", "03_forged_tickets::ticket_of_a_minute_ago_is_too_old",
     ("keyring/tickets.py", ' < claims["exp"]')),
    ("a ticket opens once", "03_replay::used_ticket_is_refused[as_it_is-websocket]",
     ("store/door.py", "tickets.c.used_at.is_(None),\n        tickets.c.dead", "tickets.c.dead")),
    ("a ticket admits once", "03_rooms::ticket_admits_once_and_not_again_after_leaving",
     ("services/admission.py", "ticket.admitted or entry.again", "False")),
    ("a ticket names its room", "03_rooms::ticket_whose_claim_says_the_room_is[anything]",
     ("services/admission.py", 'None if claims["room"] == room else Refusal.WRONG_ROOM', "None")),
    ("a ticket was made for its room", "03_rooms::ticket_whose_claim_names_another_open_room",
     ("services/admission.py", "if ticket.room != room:", "if False:")),
    ("a session enters its room", "03_rooms::session_does_not_enter[another_open_meeting]",
     ("mod_sluss_firewall.lua", "host == conference and node == room", "host == conference"),
     ("mod_sluss_gate.lua", "name ~= origin.sluss.room or "),
     ("services/admission.py", "if ticket.room != room:", "if False:")),
    ("a person has so many devices", "03_replay::third_device_is_refused",
     ("services/admission.py", ">= rules.devices", ">= 99")),
    ("a stream is not resumed", "03_replay::stream_cannot_be_made_resumable",
     ("prosody.cfg.lua", '"ping", "limits" }', '"ping", "limits", "smacks" }')),
    # 4: no answer is a no, and nobody keeps others out
    ("no answer is a no", "04_no_answer_is_no::nobody_enters_while_the_bridge_is[stopped]",
     ("sluss_bridge.lib.lua", 'return nil, "unavailable";\nend\n\n---',
      'return st.stanza("verdict", { name = "?" });\nend\n\n---')),
    ("an answer is about this session", "04_no_answer_is_no::answer_that_is_not_a_yes_about_this_session_is_a_no",
     ("sluss_bridge.lib.lua", "verdict and verdict.attr.session == question.attr.session then", "verdict then")),
    ("a stream takes so much", "04_abuse::flood_of_messages_from_inside_does_not_keep_others_out",
     ("prosody.cfg.lua", '"ping", "limits" }', '"ping" }')),
    # 5: no other door
    ("a session speaks to its own room", "03_rooms::rooms_and_people_are_not_listed",
     ("mod_auth_sluss.lua", 'module:depends("sluss_firewall");')),
    ("browsers speak to one host", "05_no_other_door::no_side_entrance_by_another_virtual_host[guest]",
     ("mod_sluss_firewall.lua", 'module:hook_global("websocket-session", only_to_this_host);'),
     ("mod_sluss_firewall.lua", 'module:hook_global("bosh-session", only_to_this_host);'),
     ("prosody.cfg.lua", '\nComponent "sluss.',
      '\nVirtualHost "guest.meet.sluss.test"\n\tauthentication = "anonymous"\n\nComponent "sluss.')),
    ("inner services listen inside", "05_no_other_door::inner_port_does_not_answer_on_the_outer_address",
     ("prosody.cfg.lua", '\ninterfaces = { "127.0.0.1" }', '\ninterfaces = { "*" }')),
    ("what nothing opened is dropped", "tests/hosts/test_site.py::test_firewall_drops_what_nothing_opened",
     ("nftables.conf", "hook input priority filter; policy drop;", "hook input priority filter; policy accept;")),
    ("servers do not speak to servers", "05_no_other_door::client_port_on_the_host_offers_nothing",
     ("prosody.cfg.lua", '"s2s", "s2s_auth_certs", '),
     ("prosody.cfg.lua", "\ns2s_ports = {}", "\ns2s_ports = { 5269 }")),
    ("two paths lead to Prosody", "05_no_other_door::path_on_the_meeting_host_leads_to_the_portal_only[/metrics]",
     ("nginx.conf", "location = /xmpp-websocket {", "location ~ . {")),
    ("other sites do not read BOSH", "05_portal::no_other_origin_reads_answers[https://evil.example]",
     ("prosody.cfg.lua", "http_cors_override = { bosh = { enabled = false } }")),
    ("TURN is for those inside", "05_no_other_door::turn_gives_no_relay_without_credentials",
     ("turnserver.conf", "use-auth-secret", "no-auth"), ("coturn", 'printf "static-auth-secret="', 'printf "# "')),
    ("TURN leads to the videobridge", "05_no_other_door::relay_reaches_no_inner_address_and_no_stranger",
     ("turnserver.conf", "denied-peer-ip=0.0.0.0-255.255.255.255"), ("turnserver.conf", "denied-peer-ip=::-ffff", "#")),
    ("TURN makes no TCP connections", "05_no_other_door::relay_makes_no_tcp_connections",
     ("turnserver.conf", "no-tcp-relay")),
    ("a form has its session's token", "05_portal::form_token_that_is[missing]",
     ("web/security.py", "not csrf_matches(request, token)", "False")),
    ("a form comes from its own origin", "05_portal::another_sites_page_cannot_act_even_with_the_token[headers0]",
     ("web/security.py", 'request.headers.get("Origin", "null")', '"null"')),
    ("a sign-in takes both factors",
     "05_portal::session_that_the_attacker_planted_is_not_the_one_that_gets_signed_in",
     ("services/sessions.py", " or not found.complete")),
    ("each role has its own pages", "05_roles::route_is_there_for_whose_it_is_and_for_nobody_else[admin]",
     ("web/security.py", "organiser.role is not role_of(name)", "False")),
    ("what is dangerous takes a proof", "05_roles::meeting_is_not_ended_for_all_with_a_session_that_somebody_left_open",
     ("web/security.py", " and route_name(request) in PROOF:", " and False:")),
    ("two admins are two", "05_roles::one_admin_alone_does_not_reset_who_has_a_secret_meeting",
     ("services/accounts.py", " and asked.by != by:", ":")),
    ("secret meetings take two admins",
     "05_roles::one_admin_alone_does_not_hand_a_secret_meeting_to_an_organiser_of_their_own",
     ("services/accounts.py", "if not self._takes_two(tx, who, act, successor, now):", "if True:")),
    ("an admin makes no admin", "05_roles::admin_does_not_make_a_second_admin",
     ("services/accounts.py", "(AccountRole.ORGANISER, AccountRole.AUDITOR)", "tuple(AccountRole)")),
    ("who is removed is out", "05_roles::who_was_removed_is_out_and_does_not_come_back",
     ("services/accounts.py", "tx.sessions.remove_all(who)", "pass")),
    ("text stays text", "05_portal::text_stays_text[<script>alert(1)</script>]",
     ("web/pages.py", "autoescape=True", "autoescape=False")),
    # 6: name and role
    ("the gate writes the name", "06_name_and_role::presence_shows_the_verified_name_and_role_although_it_says[nick]",
     ("mod_sluss_gate.lua", 'stanza:text_tag("nick", person.name, { xmlns = xmlns_nick });')),
    ("nobody says who they are",
     "06_name_and_role::presence_shows_the_verified_name_and_role_although_it_says[identity]",
     ("mod_sluss_firewall.lua", "identity_claims:contains(tag.name) or ")),
    ("nobody says what they are",
     "06_name_and_role::presence_shows_the_verified_name_and_role_although_it_says[owner_inside_something]",
     ("mod_sluss_firewall.lua", " or tag.attr.xmlns == xmlns_muc_user")),
    ("the role is the verdict's", "06_name_and_role::participant_stays_participant_and_organiser_is_owner",
     ("mod_sluss_gate.lua", 'kind == "focus" or attr.role == "organiser"', "true")),
    ("a nick is for one stay", "06_name_and_role::nick_does_not_change_during_a_stay",
     ("mod_sluss_gate.lua", "if event.orig_occupant.nick == event.dest_occupant.nick then return", "do return")),
    ("nobody is called focus", "06_name_and_role::nobody_is_called_focus[focus]",
     ("mod_sluss_gate.lua", ' or nick == "focus"')),
    ("the room takes no orders", "06_name_and_role::nobody_inside_may[destroy-organiser]",
     ("mod_sluss_firewall.lua", "return nick ~= nil or asks_for(stanza, room_queries);", "return true;")),
    # 7: out means out
    ("who is put out is outside",
     "07_out_means_out::out_on_every_device_within_two_seconds_and_not_back[put_out-websocket]",
     ("services/meetings.py", 'await self._expel(meeting, invitation, "The organiser has put you out of the meeting.")',
      "pass"), ("services/admission.py", "if change is Change.ENTERED and not _welcome(ticket, now)", "if False"),
     ("services/housekeeping.py", "_EVERY_SECONDS = 10.0", "_EVERY_SECONDS = 600.0")),
    ("who is put out has no stream before the door",
     "07_out_means_out::stream_that_waits_before_the_door_does_not_outlive_being_put_out[False-websocket]",
     ("sluss_orders.lib.lua", "if not session.destroyed", "if session.full_jid")),
    ("a new link kills the old tickets",
     "07_out_means_out::out_on_every_device_within_two_seconds_and_not_back[resend-websocket]",
     ("services/meetings.py", "tx.tickets.kill(invitation.id)", "pass")),
    ("a dead ticket admits nobody", "07_out_means_out::session_whose_link_was_replaced_does_not_enter",
     ("services/admission.py", "ticket.dead or "),
     ("services/meetings.py", "        if inside:", "        if False:"),
     ("services/meetings.py", "elif meeting.is_open(now):", "elif False:")),
    ("who is put out has no ticket left",
     "07_out_means_out::out_on_every_device_within_two_seconds_and_not_back[put_out-websocket]",
     ("services/admission.py", " or ticket.state is not InvitationState.LIVE"),
     ("services/meetings.py", "tx.tickets.kill(invitation_id)", "pass")),
    ("who is put out gets no ticket", "02_two_factors::closed_invitation_gives_no_ticket_although_verified",
     ("services/tickets.py", "invitation.state is not InvitationState.LIVE", "False"),
     ("services/meetings.py", "tx.verifications.revoke(invitation_id)", "pass")),
    ("an ended meeting is over", "07_out_means_out::meeting_that_was_ended_is_over_for_everybody",
     ("services/meetings.py", "tx.meetings.end(meeting.id, now)\n                self", "self")),
    ("only the organiser puts out", "07_out_means_out::only_the_meetings_organiser_puts_out",
     ("services/meetings.py", " or meeting.organiser_id != organiser.id")),
    # 8 to 12: personal data, the audit log, what leaves, logs, keys
    ("personal data is sealed", "08_personal_data::nothing_personal_stands_in_the_files_of_the_database",
     ("store/sealing.py", """self._aead.encrypt(nonce, text.encode(), f"{column} {row}".encode())""", "text.encode()"),
     ("store/sealing.py", 'raise SealBrokenError(f"{column}: altered, or not from this place") from None',
      "return sealed[_ID_BYTES + _NONCE_BYTES :].decode()")),
    ("the database is the bridge's", "08_personal_data::no_other_service_of_the_host_reads_database_or_secrets[nobody]",
     ("bridge", "StateDirectoryMode=0700", "StateDirectoryMode=0755"),
     ("sluss", "StateDirectoryMode=0700", "StateDirectoryMode=0755")),
    ("a list is for those who may enter", "08_personal_data::who_is_here_is_for_those_who_may_enter",
     ("services/admission.py", "view is None or not view.may_enter", "view is None")),
    ("who is late reads nothing", "08_personal_data::who_enters_late_reads_nothing_that_was_written_before",
     ("prosody.cfg.lua", "max_history_messages = 0", "max_history_messages = 20")),
    ("an entry is what its hash says", "09_audit_log::tampering_shows[changed]",
     ("domain/audit.py", "(self._anchored and chain(self.last.hash, line.entry) != line.hash)", "False")),
    ("the audit log's head is sealed", "09_audit_log::tampering_shows[made_anew_with_its_head]",
     ("store/audit.py", "return head, hmac.compare_digest(row.mac, self._mac(head))", "return head, True")),
    ("a page loads from its own origin", "10_nothing_leaves::pages_load_from_and_link_to_the_own_origin_only",
     ("web/security.py", "default-src 'none'; script-src", "default-src *; script-src")),
    ("nothing leaves the host", "10_nothing_leaves::nobody_on_the_host_reaches_what_nothing_names[prosody]",
     ("nftables.conf", "counter name outbound_refused\n", "accept\n")),
    ("names are asked of the own servers", "10_nothing_leaves::names_are_asked_of_the_own_name_servers_alone[nobody]",
     ("nftables.conf", "th dport 53 ip daddr @resolvers4 accept", "th dport 53 accept")),
    ("no access log keeps a link", "11_no_secret_in_logs::link_in_an_odd_place_is_in_no_log",
     ("nginx.conf", "$request_method $path_logged", "$request_method $request_uri")),
    ("no error log keeps a link", "11_no_secret_in_logs::link_in_a_request_that_fails_is_in_no_log",
     ("nginx.conf", "error.log emerg;", "error.log error;")),
    ("a key's private half stays here", "12_keys::key_set_holds_public_halves_only",
     ("keyring/tickets.py", "RSAAlgorithm.to_jwk(key)", "RSAAlgorithm.to_jwk(self._ring.signing)")),
    ("an archived key opens nothing", "12_keys::keys_rotate_and_nobody_is_refused",
     ("keyring/tickets.py", "self._ring.public if kind == TICKET else ")),
    ("a running bridge forgets a revoked key", "12_keys::revoked_keys_are_worthless_at_once",
     ("services/keys.py", "self._keys.take(ring)", "pass")),
    ("root alone hands keys over", "12_keys::other_user_hands_no_keys_over[sluss]",
     ("web/keys.py", "_asker(request) != ROOT", "False")),
    # 13: guessing
    ("wrong passwords have an end", "13_guessing::passwords_are_not_guessed_without_end",
     ("services/organisers.py", "limits.take(tx, failures, now)", "pass")),
    ("an authenticator's code works once", "13_guessing::authenticator_code_is_not_good_twice",
     ("services/organisers.py", "tx.account_authenticators.use_step(one.id, found.step, found.drift, now)", "True")),
    ("a participant's code works once", "13_guessing::participants_authenticator_code_is_not_good_twice",
     ("services/authenticators.py", " and tx.authenticators.use_step(own.id, found.step, found.drift, asked.at)")),
    ("an enrolment link works once", "13_guessing::enrolment_link_is_not_guessed_and_works_once",
     ("store/access.py", "enrolments.c.used_at.is_(None),\n"),
     ("store/accounts.py", "confirmed.is_(None) if waiting", "account_authenticators.c.id.is_not(None) if waiting")),
    ("codes are not sent without end", "13_guessing::pressing_the_button_again_and_again_does_not_flood_a_phone",
     ("services/participation.py", "refusal := limits.spend(tx, asks, now)", "refusal := None"),
     ("services/participation.py", "soon := _too_soon(before, now)", "soon := None")),
    ("an address is nginx's word", "13_guessing::made_up_addresses_do_not_count_as_others[X_Forwarded_For]",
     ("nginx.conf", "X-Forwarded-For $remote_addr;\n\tproxy_set_header X-Forwarded-Proto", "X-Forwarded-Proto")),
]
# fmt: on
SHORT = ["who joins has seen", "a receipt is no ticket", "two paths lead to Prosody", "other sites do not read BOSH"]
SHORT += ["a nick is for one stay"]


@dataclass(frozen=True)
class Cut:
    """A text that is in a file exactly once, and what stands there without the protection."""

    file: str
    old: str
    new: str = ""

    def place(self) -> tuple[str, str, str]:
        """Path on the host, path of what it was made from, unit that takes it up."""
        if self.file in CONFIGURATION:
            on_host, template, unit = CONFIGURATION[self.file]
            return on_host, f"roles/{template}", unit
        if self.file.endswith(".lua"):
            return f"usr/local/lib/sluss/prosody/{self.file}", f"auth-bridge/prosody/{self.file}", "prosody"
        installed = "opt/sluss/venv/lib/python3*/site-packages/sluss"
        return f"{installed}/{self.file}", f"auth-bridge/src/sluss/{self.file}", "sluss-bridge"

    def made(self, text: str) -> str:
        """The file's text without the protection. Raises `AssertionError` if that is no longer in it as it was."""
        assert text.count(self.old) == 1, f"{self.file}: {text.count(self.old)} times, not once: {self.old!r}"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutation:
    """A protection that is removed, and the attack that gets through then."""

    name: str
    attack: str
    cuts: list[Cut]


def path_of(attack: str) -> str:
    """For pytest. Those in this folder are written without what they have in common."""
    return attack if "/" in attack.partition("::")[0] else "tests/attacks/test_" + attack.replace("::", ".py::test_", 1)


MUTATIONS = [Mutation(name, path_of(attack), [Cut(*cut) for cut in cuts]) for name, attack, *cuts in TABLE]


def chosen() -> list[Mutation]:
    """Those in SHORT; with SLUSS_MUTATIONS set, those with that text in their name."""
    only = os.environ.get("SLUSS_MUTATIONS")
    return [one for one in MUTATIONS if (one.name in SHORT if only is None else only in one.name)]


@contextmanager
def without(server: Any, mutation: Mutation) -> Iterator[None]:
    """The host while a protection is missing. Everything is up, before and after."""
    before: dict[Path, tuple[str, int]] = {}
    try:
        for cut in mutation.cuts:
            [file] = server.machine.root.glob(cut.place()[0])
            before.setdefault(file, (file.read_text(), file.stat().st_mtime_ns))
            file.write_text(cut.made(file.read_text()))
        restart(server, mutation)
        yield
    finally:
        for file, (text, changed) in before.items():
            file.write_text(text)
            os.utime(file, ns=(changed, changed))  # Python keeps compiled code by that time
        restart(server, mutation)


def restart(server: Any, mutation: Mutation) -> None:
    """Take the changed files up. Raises `AssertionError` unless all services are up then."""
    changed = " ".join({cut.place()[2] for cut in mutation.cuts})
    server.run(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {changed}; systemctl start {UNITS}")
    ready(Site(server, None))
    server.run(f"systemctl is-active {UNITS}")


def main() -> int:
    """Try mutations on a host that is booted for it. 1 if any attack did not get through."""
    parser = argparse.ArgumentParser(prog="./sluss mutations")
    parser.add_argument("--only", metavar="WORD", default="", help="those with this in their name")
    os.environ["SLUSS_MUTATIONS"] = parser.parse_args().only
    if not chosen():
        parser.error("there is none with this in its name")
    with cache_in_use():
        return outside([sys.executable, "-m", "pytest", "-vv", "--durations=0", "tests/attacks/test_mutations.py"])


if __name__ == "__main__":
    sys.exit(main())
