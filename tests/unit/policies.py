"""Policies to try: the shipped one as its text, changed here and there, and one that an organisation might write."""

import copy
from pathlib import Path

import yaml

from sluss.domain.policy import Policy
from sluss.policy_file import SHIPPED, load_policy


def shipped() -> dict:
    """The shipped policy, to change as a test needs."""
    return yaml.safe_load(SHIPPED.read_text("utf-8"))


def written(folder: Path, policy: object) -> Path:
    """The path of a policy, written down."""
    path = folder / "policy.yml"
    path.write_text(yaml.safe_dump(policy, allow_unicode=True, sort_keys=False), "utf-8")
    return path


def edited() -> dict:
    """What an organisation might make of it: other classes, seeing and entering by different methods, other times."""
    policy = shipped()
    classes = policy["classes"]
    board = copy.deepcopy(classes["secret"])
    board |= {
        "title": {"en": "Board", "sv": "Styrelse"},
        "view": {"methods": ["bankid", "sign_in_high", "smartcard"], "fresh": "1h"},
        "join": {"methods": ["smartcard", "sign_in"], "fresh": "90s"},
        "grace": "30s",
        "waiting_room": False,
    }
    classes["internal"] |= {
        "view": {"methods": ["sms", "bankid"], "fresh": "7d"},
        "join": {"methods": ["bankid"], "fresh": "10m"},
        "grace": "0s",
    }
    classes["confidential"] |= {"join": {"methods": ["passkey", "totp"], "fresh": "2m"}, "grace": "15m"}
    del classes["secret"]
    classes["board"] = board
    return policy


def loaded(folder: Path, policy: dict) -> Policy:
    """The same, read and checked."""
    return load_policy(written(folder, policy))
