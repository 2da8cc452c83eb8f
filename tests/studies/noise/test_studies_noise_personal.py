"""What is planted as personal data is what others take for it, and its lookalikes are not."""

from __future__ import annotations

import ipaddress
from random import Random

import phonenumbers
import pytest
from stdnum import iban, luhn

from gemmule.studies.noise.personal import LOOKALIKES, PERSONAL, lookalike, sentence

TIMES = 300


def made(kind: str) -> list[str]:
    random = Random(kind)
    return [PERSONAL[kind](random) for _ in range(TIMES)]


def test_phone_numbers_are_valid():
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(number)) for number in made("phone"))


def test_card_numbers_have_their_checksum():
    assert all(luhn.is_valid(number.replace(" ", "").replace("-", "")) for number in made("card"))


def test_bank_numbers_have_theirs():
    assert all(iban.is_valid(number, check_country=False) for number in made("iban"))


def test_addresses_are_public():
    assert all(ipaddress.ip_address(address).is_global for address in made("ip"))


def test_cards_without_a_checksum_have_none():
    random = Random(0)
    numbers = [lookalike("card without its checksum", random)[1].replace(" ", "") for _ in range(TIMES)]
    assert not any(luhn.is_valid(number) for number in numbers)


@pytest.mark.parametrize("kind", PERSONAL)
def test_each_is_said_in_a_sentence_and_is_there_once(kind):
    said = [sentence(kind, Random(seed)) for seed in range(TIMES)]
    assert all(text.count(found) == 1 for text, found in said)
    assert len({found for _, found in said}) > 0.95 * TIMES


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_each_lookalike_stands_in_its_sentence(kind):
    text, found = lookalike(kind, Random(0))
    assert text.count(found) == 1
