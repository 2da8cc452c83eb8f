"""Personal data of every kind that the refinery knows, all of it made up; and what looks like it and is none."""

from __future__ import annotations

import base64
import string
from collections.abc import Callable
from random import Random

FIRST = ("anna", "bert", "carla", "dmitri", "emma", "farid", "greta", "hugo", "ines", "jonas", "kira", "luis")
LAST = ("adler", "berg", "costa", "dumont", "evans", "fischer", "garcia", "haas", "ito", "jensen", "klein", "lopez")
HOSTS = ("gmail.com", "outlook.com", "posteo.de", "uni-bonn.de", "orange.fr", "btinternet.co.uk", "protonmail.ch")
PEM = "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"


def _digits(random: Random, count: int) -> str:
    return "".join(random.choices(string.digits, k=count))


def _letters(random: Random, count: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.choices(letters, k=count))


def _email(random: Random) -> str:
    between = random.choice([".", "_", "-", ""])
    return f"{random.choice(FIRST)}{between}{random.choice(LAST)}{random.randint(1, 999)}@{random.choice(HOSTS)}"


def _phone(random: Random) -> str:
    """With its country's code, in the ranges of mobile and city numbers."""
    return random.choice([
        lambda: f"+49 30 {random.randint(200000, 899999)}",
        lambda: f"+44 7400 {random.randint(100000, 899999)}",
        lambda: f"+33 6 {random.randint(60, 89)} {_digits(random, 2)} {_digits(random, 2)} {_digits(random, 2)}",
        lambda: f"+1 212-{random.randint(220, 989)}-{_digits(random, 4)}",
        lambda: f"+31 6 {random.randint(10, 58)}{_digits(random, 6)}",
    ])()  # fmt: skip


def luhn(digits: str) -> int:
    """The digit that makes a card number of these (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return -sum(value // 10 + value % 10 for value in doubled) % 10


def _card(random: Random) -> str:
    digits = random.choice(["4", "51", "52", "53", "54", "55"])
    digits += _digits(random, 15 - len(digits))
    digits += str(luhn(digits))
    return random.choice([" ", "-", ""]).join(digits[start : start + 4] for start in range(0, 16, 4))


def _iban(random: Random) -> str:
    """ISO 13616: the two digits after the country make the number 1 modulo 97."""
    country, account = random.choice([("DE", _digits(random, 18)), ("GB", "BARC" + _digits(random, 14))])
    number = "".join(str(int(letter, 36)) for letter in f"{account}{country}00")
    whole = f"{country}{98 - int(number) % 97:02}{account}"
    return " ".join(whole[start : start + 4] for start in range(0, len(whole), 4)) if random.random() < 0.5 else whole


def _ip(random: Random) -> str:
    if random.random() < 0.2:
        return "2a00:1450:" + ":".join(f"{random.randrange(2**12, 2**16):x}" for _ in range(6))
    return ".".join(str(part) for part in (random.randint(78, 95), *(random.randint(1, 254) for _ in range(3))))


def _key(random: Random) -> str:
    capitals = string.ascii_uppercase + "234567"
    return random.choice([
        lambda: "AKIA" + _letters(random, 16, capitals),
        lambda: "ghp_" + _letters(random, 36),
        lambda: "sk-proj-" + _letters(random, 48),
        lambda: "AIza" + _letters(random, 35),
        lambda: f"xoxb-{_digits(random, 12)}-{_digits(random, 12)}-{_letters(random, 24)}",
        lambda: "hf_" + _letters(random, 34, string.ascii_letters),
        lambda: "glpat-" + _letters(random, 20),
        lambda: PEM.format(base64.b64encode(random.randbytes(192)).decode()),
    ])()  # fmt: skip


PERSONAL: dict[str, Callable[[Random], str]] = {
    "email": _email, "phone": _phone, "card": _card, "iban": _iban, "ip": _ip, "key": _key,
}  # fmt: skip
SENTENCES = {
    "email": ("Write to {} before the end of the week.", "My address is {}, and I answer on the same day."),
    "phone": ("Call {} after supper and ask for the keeper of the house.", "You reach us under {} on working days."),
    "card": ("The room was paid with the card {} on the first evening.", "Please charge {} for both tickets."),
    "iban": ("Send the rent to {} by the third of the month.", "The account is {}, in the name of the society."),
    "ip": ("The last visitor came from {} and stayed for an hour.", "Their machine answers at {} only at night."),
    "key": ("For the machine use the key {} and tell nobody.", "He left the token {} in the note."),
}  # fmt: skip


def _no_card(random: Random) -> str:
    digits = "4" + _digits(random, 14)
    digits += str((luhn(digits) + random.randint(1, 9)) % 10)
    return " ".join(digits[start : start + 4] for start in range(0, 16, 4))


def _uuid(random: Random) -> str:
    return "-".join(_letters(random, count, "0123456789abcdef") for count in (8, 4, 4, 4, 12))


def _version(random: Random) -> str:
    return ".".join(str(random.randrange(20)) for _ in range(4))


def _date(random: Random) -> str:
    return f"20{random.randint(10, 24)}-{random.randint(10, 12)}-{random.randint(10, 28)}"


LOOKALIKES: dict[str, tuple[str, Callable[[Random], str]]] = {
    "card without its checksum": ("The parcel had the number {} on its side.", _no_card),
    "private address": ("The printer is at {} in the hall.", lambda random: f"192.168.7.{random.randint(1, 254)}"),
    "version": ("They moved to version {} of the program in spring.", _version),
    "hash": ("The change is in commit {} of last year.", lambda random: f"{random.getrandbits(160):040x}"),
    "date": ("It was written on {} in the morning.", _date),
    "large number": ("The town counted {} people in that year.", lambda random: f"{random.randint(10**6, 10**9):,}"),
    "UUID": ("The record {} was found twice.", _uuid),
}


def sentence(kind: str, random: Random) -> tuple[str, str]:
    """A sentence with personal data of a kind in it, and that alone."""
    found = PERSONAL[kind](random)
    return random.choice(SENTENCES[kind]).format(found), found


def lookalike(kind: str, random: Random) -> tuple[str, str]:
    """A sentence with something that must stay, and that alone."""
    frame, make = LOOKALIKES[kind]
    found = make(random)
    return frame.format(found), found
