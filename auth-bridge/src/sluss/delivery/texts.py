"""What is written in mails, SMS and the BankID app. Neutral on purpose: nothing of the meeting or its people."""

from enum import StrEnum

SUBJECT = {"sv": "Personlig länk", "en": "Personal link"}

_INVITATION = {
    "sv": "Du har fått en personlig länk. Öppna den i en webbläsare:",
    "en": "You have been sent a personal link. Open it in a browser:",
}
_LINK_ONLY = {
    "sv": "Länken är bara till för dig. Skicka den inte vidare.",
    "en": "The link is for you alone. Do not pass it on.",
}
_NOT_ME_SUBJECT = {"sv": "En inbjudan kom till fel person", "en": "An invitation reached the wrong person"}
_NOT_ME = {
    "sv": "Någon har svarat ”Det är inte jag”. Länken är stängd. Logga in för att se vilken:",
    "en": "Somebody answered “This is not me”. The link is closed. Sign in to see which:",
}
_SECOND_SUBJECT = {"sv": "Din andra faktor", "en": "Your second factor"}
_SECOND = {
    "sv": "Du har loggat in med ditt lösenord. Öppna länken i en webbläsare och ställ in en autentiseringsapp:",
    "en": "You have signed in with your password. Open the link in a browser and set up an authenticator:",
}
_SECOND_NOT_YOU = {
    "sv": "Var det inte du? Då kan någon ditt lösenord. Byt det, och säg till IT-avdelningen.",
    "en": "Was it not you? Then somebody knows your password. Change it, and tell the IT department.",
}
_NUMBER_SUBJECT = {"sv": "Ett nytt telefonnummer", "en": "A new phone number"}
_NUMBER = {
    "sv": "Till din personliga länk hör nu ett annat telefonnummer. Länken är densamma. Om du inte väntade dig det, "
    "använd den inte, och hör av dig till den som du väntade den från.",
    "en": "Another phone number now belongs to your personal link. The link is the same. If you did not expect that, "
    "do not use it, and tell whom you expected it from.",
}
_LINK_CLOSED_SUBJECT = {"sv": "En personlig länk gäller inte längre", "en": "A personal link no longer works"}
_LINK_CLOSED = {
    "sv": "En personlig länk som du har fått öppnar inte längre något. Du behöver inte göra något.",
    "en": "A personal link that you were sent opens nothing any more. You need do nothing.",
}
_ENROLMENT_SUBJECT = {"sv": "Ditt konto hos {organisation}", "en": "Your account at {organisation}"}
_ENROLMENT = {
    "sv": "Gör klart ditt konto för skyddade möten inom sju dagar. Länken är bara till för dig:",
    "en": "Set up your account for protected meetings within seven days. The link is for you alone:",
}


class Notice(StrEnum):
    """What the owner of an account is told of it."""

    ENROLLED = "enrolled"
    RECOVERY_CODE_USED = "recovery-code-used"
    AUTHENTICATOR_ADDED = "authenticator-added"
    AUTHENTICATOR_REMOVED = "authenticator-removed"
    PASSKEY_ADDED = "passkey-added"
    PASSKEY_REMOVED = "passkey-removed"
    RESET_ASKED = "reset-asked"
    RESET = "reset"
    REMOVED = "removed"
    MEETINGS_TAKEN_OVER = "meetings-taken-over"


_NOTICE_SUBJECT = {"sv": "Ditt konto har ändrats", "en": "Your account was changed"}
_NOTICES = {
    Notice.ENROLLED: {
        "sv": "Lösenord och autentiseringsapp har valts för ditt konto.",
        "en": "A password and an authenticator were set up for your account.",
    },
    Notice.RECOVERY_CODE_USED: {
        "sv": "En av dina återställningskoder har använts.",
        "en": "One of your recovery codes was used.",
    },
    Notice.AUTHENTICATOR_ADDED: {
        "sv": "En autentiseringsapp har lagts till.",
        "en": "An authenticator was added.",
    },
    Notice.AUTHENTICATOR_REMOVED: {
        "sv": "En autentiseringsapp har tagits bort.",
        "en": "An authenticator was removed.",
    },
    Notice.PASSKEY_ADDED: {"sv": "En nyckel (passkey) har lagts till.", "en": "A passkey was added."},
    Notice.PASSKEY_REMOVED: {"sv": "En nyckel (passkey) har tagits bort.", "en": "A passkey was removed."},
    Notice.RESET_ASKED: {
        "sv": "En administratör vill återställa din inloggning. Det görs om en till begär det inom ett dygn.",
        "en": "An administrator wants to reset your sign-in. It is done if a second one asks for it within a day.",
    },
    Notice.RESET: {
        "sv": "Din inloggning har återställts av en administratör. Allt du loggade in med gäller inte längre, och du "
        "är utloggad överallt. En länk för att välja nytt kommer för sig.",
        "en": "Your sign-in was reset by an administrator. Nothing that you signed in with works any more, and you are "
        "signed out everywhere. A link to set it up anew comes by itself.",
    },
    Notice.REMOVED: {
        "sv": "Ditt konto har tagits bort av en administratör.",
        "en": "Your account was removed by an administrator.",
    },
    Notice.MEETINGS_TAKEN_OVER: {
        "sv": "En kollegas möten är från och med nu dina.",
        "en": "A colleague's meetings are yours from now on.",
    },
}
_NOT_YOURS = {
    "sv": "Om det inte stämmer, säg till din administratör genast. Dina inställningar:",
    "en": "If that is not right, tell your administrator at once. Your settings:",
}
_CODE = {
    "sv": "{code} är din kod. Lämna den inte till någon.",
    "en": "{code} is your code. Give it to nobody.",
}
_BANKID = {
    "sv": "# Legitimering hos {organisation}\nFör det du har en personlig länk till.",
    "en": "# Identification at {organisation}\nFor what you have a personal link to.",
}
_BANKID_ORGANISER = {"sv": "Inbjuden av *{organiser}*.", "en": "Invited by *{organiser}*."}
_BANKID_WARNING = {
    "sv": "Gör det bara om du själv är på {host}. Ingen ringer dig och ber om det.",
    "en": "Do it only if you yourself are at {host}. Nobody calls you and asks for it.",
}
_MARKUP = str.maketrans("", "", "*#|")
_OTHER = {"sv": "en", "en": "sv"}


def invitation(locale: str, link: str) -> tuple[str, str]:
    """Subject and body of the mail with a personal link, first language first."""
    second = _OTHER[locale]
    ours, theirs = _INVITATION[locale], _INVITATION[second]
    body = f"{ours}\n{theirs}\n\n{link}\n\n{_LINK_ONLY[locale]}\n{_LINK_ONLY[second]}\n"
    return f"{SUBJECT[locale]} / {SUBJECT[second]}", body


def number_changed(locale: str) -> tuple[str, str]:
    """Subject and body of the mail that tells a participant of it, first language first."""
    second = _OTHER[locale]
    return f"{_NUMBER_SUBJECT[locale]} / {_NUMBER_SUBJECT[second]}", f"{_NUMBER[locale]}\n\n{_NUMBER[second]}\n"


def not_me(locale: str, portal: str) -> tuple[str, str]:
    """Subject and body of the mail that tells an organiser of a wrong recipient."""
    return _NOT_ME_SUBJECT[locale], f"{_NOT_ME[locale]}\n\n{portal}/\n"


def second_factor(locale: str, link: str) -> tuple[str, str]:
    """Subject and body of the mail to an organiser whose password the directory knows, and who has no second factor."""
    second = _OTHER[locale]
    body = f"{_SECOND[locale]}\n{_SECOND[second]}\n\n{link}\n\n{_SECOND_NOT_YOU[locale]}\n{_SECOND_NOT_YOU[second]}\n"
    return f"{_SECOND_SUBJECT[locale]} / {_SECOND_SUBJECT[second]}", body


def link_closed(locale: str) -> tuple[str, str]:
    """Subject and body of the mail that tells an invited person that the meeting was withdrawn, and says as little."""
    second = _OTHER[locale]
    subject = f"{_LINK_CLOSED_SUBJECT[locale]} / {_LINK_CLOSED_SUBJECT[second]}"
    return subject, f"{_LINK_CLOSED[locale]}\n{_LINK_CLOSED[second]}\n"


def enrolment(locale: str, organisation: str, url: str) -> tuple[str, str]:
    """Subject and body of the mail with the link by which somebody of the staff enrols."""
    return _ENROLMENT_SUBJECT[locale].format(organisation=organisation), f"{_ENROLMENT[locale]}\n\n{url}\n"


def notice(locale: str, what: Notice, portal: str) -> tuple[str, str]:
    """Subject and body of the mail that tells somebody what became of their account."""
    body = f"{_NOTICES[what][locale]}\n\n{_NOT_YOURS[locale]}\n\n{portal}/account\n"
    return _NOTICE_SUBJECT[locale], body


def code(locale: str, value: str, portal_host: str) -> str:
    """The SMS with a code. The last line binds it to our origin: the phone offers it nowhere else."""
    return f"{_CODE[locale].format(code=value)}\n\n@{portal_host} #{value}"


def bankid(locale: str, organisation: str, portal_host: str, organiser: str) -> str:
    """What the BankID app shows (simpleMarkdownV1). `organiser` is empty for whoever has not seen the invitation."""
    lines = [_BANKID[locale].format(organisation=organisation.translate(_MARKUP))]
    if organiser:
        lines.append(_BANKID_ORGANISER[locale].format(organiser=organiser.translate(_MARKUP)))
    return "\n\n".join([*lines, _BANKID_WARNING[locale].format(host=portal_host)])
