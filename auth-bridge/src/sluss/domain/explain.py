"""What a sensitivity class comes to on an installation: who gets in, how, and how long each proof counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sluss.domain.assurance import Method, Purpose, Worth, worth
from sluss.domain.policy import SensitivityClass


@dataclass(frozen=True, slots=True)
class Way:
    """One accepted way of proving who one is, for one purpose."""

    purpose: Purpose
    method: Method
    worth: Worth
    fresh: timedelta
    """So long it counts. While the person is inside, and for the class's grace after that, it need not be fresh."""
    set_up: bool
    """Whether it can be used on this installation."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A class and what it comes to."""

    sensitivity: SensitivityClass
    ways: tuple[Way, ...]
    """Every method that is accepted, whether it is set up or not."""
    ways_in: tuple[Method, ...]
    """The methods that are set up and lead a participant all the way in. None: nobody can enter."""

    def of(self, purpose: Purpose) -> tuple[Way, ...]:
        """The ways for one purpose."""
        return tuple(way for way in self.ways if way.purpose is purpose)


def explain(one: SensitivityClass, set_up: Iterable[Method]) -> Explanation:
    """What `one` comes to where participants can verify by the methods that are `set_up`."""
    have = frozenset(set_up)
    ways = tuple(
        Way(purpose, method, worth(method), one.requirement(purpose).fresh, method in have)
        for purpose in Purpose
        for method in Method
        if one.requirement(purpose).accepts(method)
    )
    return Explanation(one, ways, one.ways_in(sorted(have)))
