"""What tests/attacks/mutations.py removes is still there as it was, and so are the attacks that it names."""

from __future__ import annotations

import re

import pytest
from tests.attacks.mutations import MUTATIONS, REPOSITORY, SHORT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_protection_can_be_removed_from_the_source(mutation: Mutation):
    texts = {cut.file: (REPOSITORY / cut.place()[1]).read_text() for cut in mutation.cuts}
    assert texts
    for cut in mutation.cuts:
        texts[cut.file] = cut.made(texts[cut.file])


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_attack_is_there(mutation: Mutation):
    file, _, name = mutation.attack.partition("[")[0].partition("::")
    assert re.search(rf"^(?:async )?def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


def test_each_has_a_name_of_its_own_and_the_short_ones_are_among_them():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 28
    assert set(SHORT) <= set(names)
