"""What the pages need to know about this installation."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """Settings of the portal; origins are `https://host`, without a slash at the end."""

    organisation: str
    portal_origin: str
    meet_origin: str
    meet_host: str
    """Jitsi's host name, which is the XMPP domain too."""
    jitsi: bool
    """Whether the room page shows Jitsi, or the signalling-only room."""
    trusted_proxies: tuple[IPv4Address | IPv6Address, ...]
    default_locale: str
    default_region: str
    """ISO 3166 country of phone numbers written without a country code."""
    sms_prefixes: tuple[str, ...]
    """What the mobile numbers of participants begin with."""
    csrf_key: bytes = field(repr=False)
    card_origin: str = ""
    """Where a browser shows a card; nothing where that is not set up."""
