"""Personal data: what is masked and what stays, by hand; and precision and recall where it is planted in real text."""

from __future__ import annotations

import ipaddress
import json
import pickle
import random
import re
import string
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from stdnum import iban, luhn

from gemmule.refine.sources import Document, read_documents, resolve
from gemmule.refine.steps.personal_data import PersonalData, mask, masked

MASK = re.compile("<(?:email|phone|card|ip|key)>")

MASKED = [
    # CASES.md: only what passes its checksum or its country's rule
    ("", "4111 1111 1111 1111", "<card>"),
    ("", "+49 30 123456", "<phone>"),
    # cards and accounts
    ("en", "card 4111-1111-1111-1111 12/26, 123", "card <card> 12/26, 123"),
    ("en", "5555555555554444; 3782 822463 10005", "<card>; <card>"),
    ("zh", "卡号4111111111111111。", "卡号<card>。"),
    ("de", "IBAN DE89 3704 0044 0532 0130 00 BIC", "IBAN <card> BIC"),
    ("en", "GB82WEST12345698765432.", "<card>."),
    # e-mail
    ("en", "Jane <jane.doe+news@mail.example.co.uk>, or", "Jane <<email>>, or"),
    ("en", "mailto:o'brien@example.com.", "mailto:<email>."),
    ("es", "escribe a josé.garcía@correo.es", "escribe a <email>"),
    ("ru", "пишите: дмитрий@пример.рф", "пишите: <email>"),
    ("zh", "请联系user@example.com或者打电话", "请联系<email>或者打电话"),
    ("ko", "user@example.co.kr로 보내세요", "<email>로 보내세요"),
    # telephones
    ("en", "Call (202) 555-0143, 202-555-0144 or 202.555.0145 ext. 12.", "Call <phone>, <phone> or <phone>."),
    ("en", "In London: 020 7946 0958", "In London: <phone>"),
    ("en", "her phone is 2025550143", "her phone is <phone>"),
    ("de", "Tel. 030 123456, 0171 1234567 / 030/123456", "Tel. <phone>, <phone> / <phone>"),
    ("fr", "au 06 12 34 56 78 ou 01.23.45.67.89", "au <phone> ou <phone>"),
    ("pt", "ligue: tel. 212 345 678, (11) 96123-4567", "ligue: tel. <phone>, <phone>"),
    ("no", "tlf. 22 12 34 56", "tlf. <phone>"),
    ("ja", "電話は03-1234-5678です", "電話は<phone>です"),
    ("zh", "手机：13123456789", "手机：<phone>"),
    ("ar", "هاتف ٠١٠٠١٢٣٤٥٦٧", "هاتف <phone>"),
    ("", "+49 (0)30 123456-78", "<phone>"),
    ("de", "0049 30 123456, (030) 123456, (+49) 30 123456", "<phone>, <phone>, <phone>"),
    ("en", '17,202-555-0143,"1 (800) 555-0199"', '17,<phone>,"<phone>"'),
    ("ru", "8 (495) 123-45-67, тел. 84951234567", "<phone>, тел. <phone>"),
    ("", "Tel. 030 123456, tél. 01 23 45 67 89", "Tel. <phone>, tél. <phone>"),
    ("hi", "फ़ोन 98765 43210", "फ़ोन <phone>"),
    # public addresses
    ("en", "dig @8.8.8.8, then 93.184.216.34:80.", "dig @<ip>, then <ip>:80."),
    ("en", "[2001:4860:4860::8888]:443", "[<ip>]:443"),
    ("en", "server 1.2.3.4", "server <ip>"),
    # keys
    ("en", "AKIAIOSFODNN7EXAMPLE", "<key>"),
    ("en", "token=ghp_0123456789abcdefghijABCDEFGHIJ012345", "token=<key>"),
    ("en", "https://bob:s3cret@db.example.org/x", "https://<key>@db.example.org/x"),
    ("en", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P", "<key>"),
    ("ja", "鍵は sk-proj-abcdefghijklmnop0123456789 です", "鍵は <key> です"),
]

STAYS = [
    # CASES.md
    ("en", "4111 1111 1111 1112"),
    ("en", "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, 9783161484100"),
    ("en", "commit 42ae8a5ff0e9d8c7b6a59483726150493827161504, 4111111111111111abcdef"),
    ("en", "192.168.0.1, 10.0.0.1, 127.0.0.1, 203.0.113.7, fe80::1, 2001:db8::1"),
    ("en", "version 1.2.3.4, v8.8.8.8, foo==1.4.200.3, Mozilla/99.2.200.7, 8.8.8.8.8, build: 9.9.300.1"),
    ("en", "2024-10-11, 10/11/2024, 11.10.2024, 2024-10-11 12:30:45, 20241011123045"),
    # sections, sums, prices, ranges, tables
    ("en", "4.3.2.1 A title\n1.1.1.1. Another\nsee 12.1.2.3"),
    ("en", "$1,234,567.00, 1 234 567 890 people, 12345678 - 2345678 = 10000000, 48/2=24, 0.86323640"),
    ("en", "2003-2004, 1998 2003, (2022-01-18) x, pp. 123-4567, 571 612 1056"),
    ("pt", "população 212 345 678, 12.345.678, 01/02/2024"),
    ("no", "22 12 34 56"),
    ("de", "01.02.2024, 12.345.678,90 Euro, 49 30 12, Art. 0815-4711"),
    ("en", "525A 525B 525C 525D 525E\n525F 5260 5261 5262 5263 5264 5265 5266\n5230 522E 5236 5241 52BE"),
    ("en", "x**2 + 278326125*x, 1+4930123456, c+49301234567"),
    # identifiers
    ("en", "123e4567-e89b-12d3-a456-426614174000, 12345678-1234-1234-1234-123456789012"),
    ("en", "10.1038/s41586-020-2649-2, 10.1145/3292500.3330701, arXiv:2106.09685"),
    ("en", "2025550143, 1698765432, 0123456789, tweet 1234567890123456789"),
    ("en", "00:1a:2b:3c:4d:5e, std::vector, a::b, 12:30:45, 2001:30"),
    # at signs that are no address
    ("en", "user at example dot com, user@localhost, @user, a @ b.T, W@x.mean(), $@"),
    ("en", "git@github.com:owner/name.git, ssh://git@github.com/owner/name"),
    ("en", "npm package@1.2.3, @scope/package@1.2.3-beta.rc, golang.org/x/net@v0.1.2, icon@2x.png, user@1000.service"),
    # no keys
    ("en", "a risk-averse-and-very-long-word sk-circle-fade-in-and-out, hf_hub_download_with_many_words"),
    ("en", '"-----BEGIN PRIVATE KEY-----" in text'),
]  # fmt: skip


@pytest.mark.parametrize(("language", "text", "expected"), MASKED, ids=[text for _, text, _ in MASKED])
def test_is_masked(language, text, expected):
    assert masked(text, language) == expected
    assert masked(expected, language) == expected


@pytest.mark.parametrize(("language", "text"), STAYS, ids=[text for _, text in STAYS])
def test_stays(language, text):
    assert masked(text, language) == text


def test_private_key():
    block = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA75LqIgtDNqWmLxTiWrTxiqHnYBnWKKHKrVQZbVZ0\n" * 20
    block += "-----END RSA PRIVATE KEY-----"
    assert masked(f"before\n{block}\nafter.") == "before\n<key>\nafter."
    assert masked(f'key = "{block.replace(chr(10), chr(92) + "n")}"') == 'key = "<key>"'
    certificate = block.replace("RSA PRIVATE KEY", "CERTIFICATE")
    assert masked(certificate) == certificate


def document(text: str, language: str = "en") -> Document:
    return Document(text, "a.txt", 7, language)


def test_masks_and_counts():
    verdict = PersonalData().judge(document("a@b.org, c@d.org and +49 30 123456"))
    assert verdict.document == document("<email>, <email> and <phone>")
    assert verdict.counts == {"<email>": 2, "<phone>": 1}
    assert PersonalData().judge(document("Nothing.")).document == document("Nothing.")


def test_drops_and_names_no_value():
    verdict = PersonalData("drop").judge(document("a@b.org, c@d.org and +49 30 123456"))
    assert verdict.document is None
    assert verdict.reason == "personal data: 2 <email>, 1 <phone>"
    assert "b.org" not in repr(verdict)
    assert PersonalData("drop").judge(document("Nothing.")).document == document("Nothing.")


def test_goes_to_other_processes():
    step = pickle.loads(pickle.dumps(PersonalData("drop")))
    assert step.judge(document("a@b.org")).document is None


def test_harms_no_shakespeare():
    for file in resolve(["gemmule:shakespeare"], Path()):
        for each in read_documents(file):
            assert mask(each.text, "en") == (each.text, {})


# Planted data. Of telephones, one for each of 40 countries as a line and as a mobile, with the language of the country.

COUNTRIES = {
    "en": "US GB AU NZ ZA", "de": "DE AT CH", "fr": "FR BE", "es": "ES MX AR CL", "it": "IT", "nl": "NL", "sv": "SE",
    "da": "DK", "no": "NO", "fi": "FI", "pl": "PL", "cs": "CZ", "sk": "SK", "hu": "HU", "ro": "RO", "bg": "BG",
    "el": "GR", "tr": "TR", "ru": "RU", "uk": "UA", "hr": "HR", "he": "IL", "hi": "IN", "th": "TH", "vi": "VN",
    "id": "ID", "ja": "JP", "ko": "KR", "zh": "CN", "pt": "BR PT",
}  # fmt: skip
NAMES = {
    "de": "Telefon", "fr": "Téléphone", "es": "Teléfono", "it": "Telefono", "pt": "Telefone", "ru": "Телефон",
    "uk": "Телефон", "bg": "Телефон", "el": "Τηλέφωνο", "ja": "電話", "zh": "电话", "ko": "전화", "he": "טלפון",
    "hi": "फ़ोन", "th": "โทร", "vi": "Điện thoại", "fi": "Puhelin", "id": "Telepon",
}  # fmt: skip


def telephones() -> list[tuple[str, str, bool]]:
    """Each with its language, and whether it needs a word before it: it has no form of its own."""
    found = []
    for language, country in ((language, country) for language, each in COUNTRIES.items() for country in each.split()):
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE):
            number = phonenumbers.example_number_for_type(country, kind)
            forms = PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164, PhoneNumberFormat.NATIONAL
            for form in forms:
                written = phonenumbers.format_number(number, form)
                bare = re.fullmatch(r"[1-9]\d{0,2}( \d{3})+|[1-9][\d ]{0,10}|[1-9]\d{2} \d{7}", written) is not None
                found.append((written, language, bare))
    return found


def keys(chance: random.Random) -> list[str]:
    def letters(count: int, of: str = string.ascii_letters + string.digits) -> str:
        return "".join(chance.choices(of, k=count))

    makers = [
        lambda: "AKIA" + letters(16, string.ascii_uppercase + "234567"), lambda: "ghp_" + letters(36),
        lambda: "github_pat_" + letters(22) + "_" + letters(59), lambda: "xoxb-" + letters(11) + "-" + letters(24),
        lambda: "sk_live_" + letters(24), lambda: "sk-" + letters(48), lambda: "AIza" + letters(35),
        lambda: "hf_" + letters(34), lambda: "eyJ" + letters(20) + ".eyJ" + letters(60) + "." + letters(43),
        lambda: "glpat-" + letters(20),
    ]  # fmt: skip
    return [make() for make in makers for _ in range(30)]


def planted() -> list[tuple[str, str, str]]:
    """(kind, value, language), several hundred of each kind."""
    chance = random.Random(1)

    def digits(count: int) -> str:
        return "".join(chance.choices(string.digits, k=count))

    items = []
    for written, language, bare in telephones():
        word = NAMES.get(language, "Tel.")
        items += [("<phone>", f"{word}: {written}", language)] + [("<phone>", written, language)] * (not bare)
    for _ in range(100):
        for prefix, length in (("4", 16), ("55", 16), ("37", 15), ("6011", 16)):
            number = prefix + digits(length - len(prefix) - 1)
            number += luhn.calc_check_digit(number)
            groups = re.findall("....", number) if length == 16 else [number[:4], number[4:10], number[10:]]
            items.append(("<card>", chance.choice(["", " ", "-"]).join(groups) if length == 16 else number, "en"))
        for country, length in (("DE", 18), ("FR", 23), ("NL", 14), ("PL", 24)):
            account = digits(length) if country in ("DE", "PL", "FR") else "ABNA" + digits(10)
            number = country + iban.calc_check_digits(f"{country}00{account}") + account
            items.append(("<card>", chance.choice([number, iban.format(number)]), "de"))
    while sum(kind == "<ip>" for kind, _, _ in items) < 400:
        wide = chance.random() < 0.3
        address = (
            ipaddress.ip_address((0x2A << 120) + chance.getrandbits(120))
            if wide
            else ipaddress.ip_address(chance.getrandbits(32))
        )
        if address.is_global and not address.is_multicast:
            items.append(("<ip>", str(address), "en"))
    names = ["jane.doe", "j_doe", "Jane", "jane+news", "jdoe99", "j.r.r.doe", "müller", "info"]
    hosts = ["example.com", "mail.example.co.uk", "firma.de", "a-b.org", "163.com", "uni.museum", "xn--mller-kva.de"]
    items += [
        ("<email>", f"{name}{number}@{host}", "en")
        for name in names for host in hosts for number in ("", "7", "2024", ".x", "-y", "_z")
    ]  # fmt: skip
    items += [("<key>", key, "en") for key in keys(chance)]
    return items


def look_alikes() -> list[tuple[str, str]]:
    """(value, language): several hundred of each sort, that must stay."""
    chance = random.Random(2)

    def digits(count: int) -> str:
        return str(chance.randint(1, 9)) + "".join(chance.choices(string.digits, k=count - 1))

    found = []
    for _ in range(100):
        day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1900, 2030)
        language = chance.choice(sorted(COUNTRIES))
        wrong = digits(16)
        while luhn.is_valid(wrong):
            wrong = digits(16)
        isbn = f"978-{digits(1)}-{digits(2)}-{digits(6)}-{digits(1)}"
        found += [
            (f"{year}-{month:02}-{day:02}", language), (f"{day:02}.{month:02}.{year}", language),
            (f"{month:02}/{day:02}/{year}", language), (f"{year}-{year + 3}", language),
            (" ".join(re.findall("....", wrong)), "en"), (f"ISBN {isbn}", language),
            ("".join(chance.choices("0123456789abcdef", k=40)), "en"),
            (f"10.{digits(4)}/{digits(7)}.{digits(7)}", "en"),
            (f"192.168.{chance.randint(0, 255)}.{chance.randint(0, 255)}", "en"),
            (f"version {chance.randint(0, 99)}.{chance.randint(0, 99)}.{chance.randint(0, 200)}.1", "en"),
            (f"{chance.randint(1, 12)}.{chance.randint(1, 9)}.{chance.randint(1, 9)}.{chance.randint(1, 9)}", language),
            (f"{digits(3)} {digits(3)} {digits(3)}", language), (f"${digits(1)},{digits(3)},{digits(3)}.00", "en"),
            (f"0.{digits(8)}", language), (f"{digits(10)}", language), (f"{digits(7)} + {digits(7)}", language),
            (f"package@{digits(1)}.{digits(2)}.{digits(1)}", "en"), (f"{chance.uniform(1, 99):.6f}", language),
            (f"{digits(2)}:{digits(2)}:{digits(2)}", language), (f"#{digits(9)}", language),
        ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """Real text to plant in."""
    file = resolve(["gemmule:shakespeare/hamlet.txt"], Path())[0]
    text = "".join(each.text for each in read_documents(file))
    return [line.strip() for line in text.splitlines() if len(line.split()) > 4]


def test_precision_and_recall_of_planted_data(sentences):
    chance = random.Random(3)
    right, missed, wrong = Counter(), Counter(), Counter()
    for kind, value, language in planted():
        before, after = chance.sample(sentences, 2)
        text = masked(f"{before} {value}, {after}", language)
        expected = value.split(": ")[0] + ": " + kind if ": " in value else kind
        right[kind] += text == f"{before} {expected}, {after}"
        missed[kind] += text != f"{before} {expected}, {after}"
    for value, language in look_alikes():
        before, after = chance.sample(sentences, 2)
        _, counts = mask(f"{before} {value}, {after}", language)
        wrong.update(counts)
    print({kind: (right[kind], missed[kind], wrong[kind]) for kind in right})
    for kind in right:
        assert right[kind] >= 200
        assert right[kind] / (right[kind] + missed[kind]) >= 0.98, kind
        assert right[kind] / (right[kind] + wrong[kind]) >= 0.98, kind


def test_a_second_pass_changes_nothing(sentences):
    chance = random.Random(4)
    items = planted() + [("", value, language) for value, language in look_alikes()]
    for _ in range(100):
        chosen = chance.sample(items, 10)
        separators = [" ", ", ", "\n", "; ", " / ", ""]
        text = "".join(value + chance.choice(separators) for _, value, _ in chosen) + chance.choice(sentences)
        once = masked(text, chosen[0][2])
        assert masked(once, chosen[0][2]) == once


def test_numbers_of_school_problems_stay():
    """In the style of GSM8K."""
    text = "Natalia sold 48/2 = <<48/2=24>>24 clips in May, 48+24 = <<48+24=72>>72 in all.\n#### 72\n1000000*0.5=500000"
    assert masked(text, "en") == text
    assert masked(json.dumps({"a": 12345678, "b": [1234567890, 0.1234567]}), "") == json.dumps(
        {"a": 12345678, "b": [1234567890, 0.1234567]}
    )
