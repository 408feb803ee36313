"""What a sensitivity class comes to, in plain words, for whoever has to decide about it or is asked about it."""

from collections.abc import Iterator, Sequence

from sluss.domain.assurance import ADDED, Method, Purpose
from sluss.domain.explain import Explanation, Way
from sluss.domain.policy import Encryption, SensitivityClass
from sluss.web import i18n
from sluss.web.pages import METHOD_TEXTS, N_, Texts

ENCRYPTION_TEXTS = {
    Encryption.FORBIDDEN: N_("End-to-end encryption: not allowed."),
    Encryption.ALLOWED: N_("End-to-end encryption: allowed."),
    Encryption.REQUIRED: N_("End-to-end encryption: turned on for everybody whose browser can."),
}

TRUST_TEXTS = {
    2: N_("at most tillitsnivå 2, eIDAS low"),
    3: N_("at most tillitsnivå 3, eIDAS substantial"),
    4: N_("at most tillitsnivå 4, eIDAS high"),
}


def in_words(explanation: Explanation, words: Texts) -> Iterator[str]:
    """Lines of text. Those that begin with a hyphen belong to the line before them."""
    one = explanation.sensitivity
    yield words.of(one.title)
    yield words.of(one.description)
    yield ""
    yield words.gettext(
        N_("Those invited see title, agenda and time after one of these proofs, for %(fresh)s in the same browser:"),
        fresh=i18n.duration(one.view.fresh, words.lang),
    )
    yield from _ways(explanation.of(Purpose.VIEW), words)
    if any(way.method in ADDED for way in explanation.ways):
        yield words.gettext(
            N_("A passkey or authenticator counts if it was added after another proof that shows the invitation.")
        )
    if one.passkey_models is not None:
        yield words.ngettext(
            "Passkeys count of %(n)d model alone, attested by its maker.",
            "Passkeys count of %(n)d models alone, attested by their makers.",
            len(one.passkey_models),
        )
    yield words.gettext(
        N_("They enter after one of these, no older than %(fresh)s, as the same person who saw the invitation:"),
        fresh=i18n.duration(one.join.fresh, words.lang),
    )
    yield from _ways(explanation.of(Purpose.JOIN), words)
    yield words.gettext(
        N_(
            "The organiser enters with password and a fresh code from the authenticator, with a passkey, or by the "
            "organisation's own sign-in, where there is one."
        )
    )
    yield _who_gets_in(explanation.ways_in, words)
    yield ""
    yield from _inside(one, words)
    yield ""
    yield from _kept(one, words)


def _ways(ways: Sequence[Way], words: Texts) -> Iterator[str]:
    for way in ways:
        value, said = way.worth, [words.method(way.method), words.gettext(TRUST_TEXTS[way.worth.trust])]
        if value.phishing_resistant:
            said.append(words.gettext(N_("resists phishing")))
        if value.restricted:
            said.append(words.gettext(N_("restricted by NIST")))
        if not way.set_up:
            said.append(words.gettext(N_("not set up here")))
        yield "- " + "; ".join(said)


def _who_gets_in(ways_in: Sequence[Method], words: Texts) -> str:
    if not ways_in:
        return words.gettext(N_("Nobody who is invited can enter with the methods that are set up here."))
    names = ", ".join(words.gettext(METHOD_TEXTS[method]) for method in ways_in)
    return words.gettext(N_("With what is set up here, people get in by: %(methods)s."), methods=names)


def _inside(one: SensitivityClass, words: Texts) -> Iterator[str]:
    if one.grace:
        back = words.gettext(
            N_("Whoever loses the connection is back without a new proof for %(grace)s."),
            grace=i18n.duration(one.grace, words.lang),
        )
    else:
        back = words.gettext(N_("Every entry takes a new proof, also after a lost connection."))
    yield back
    yield words.ngettext("One person, %(n)d device.", "One person, up to %(n)d devices.", one.devices)
    yield words.gettext(
        N_("Those invited see who else is.") if one.attendees_shown else N_("Those invited do not see who else is.")
    )
    if one.waiting_room:
        yield words.gettext(N_("They wait until the organiser is inside."))
        yield words.gettext(
            N_("Those who wait see who else does and how each proved it.")
            if one.waiting_shows_verified
            else N_("Those who wait do not see who else does.")
        )
    else:
        yield words.gettext(N_("They may enter before the organiser."))
    features = one.features
    yield words.gettext(N_("Recording: allowed.") if features.recording else N_("Recording: not allowed."))
    yield words.gettext(N_("Chat: allowed.") if features.chat else N_("Chat: not allowed."))
    yield words.gettext(
        N_("Screen sharing: allowed.") if features.screen_sharing else N_("Screen sharing: not allowed.")
    )
    yield words.gettext(ENCRYPTION_TEXTS[features.end_to_end_encryption])


def _kept(one: SensitivityClass, words: Texts) -> Iterator[str]:
    yield words.gettext(
        N_("People, title, agenda and attendance are forgotten %(retention)s after the meeting's end."),
        retention=i18n.duration(one.retention, words.lang),
    )
    yield words.gettext(
        N_("From which network each person came is kept with the attendance.")
        if one.keeps_origin
        else N_("From which network each person came is not kept.")
    )
    yield words.gettext(N_("The audit log stays. It has ids and methods, and no names."))
    yield words.gettext(
        N_("It takes two administrators to reset its organiser's sign-in, or to hand the meeting over.")
        if one.two_admins
        else N_("One administrator can reset its organiser's sign-in, or hand the meeting over.")
    )
