"""Keys, tokens and passwords of known shapes: those that their makers gave a prefix, so that they can be found.

Shapes: the makers' documentation, and the rules of gitleaks and detect-secrets. A long random string alone is no key:
it may as well be a hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gemmule.refine.steps.personal_data.masking import Place

_TOKENS = (
    r"(?:AKIA|ASIA)[A-Z2-7]{16}",  # Amazon Web Services
    r"gh[oprsu]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{36,}",
    r"glpat-[\w-]{20,}",
    r"xox[a-z]-[A-Za-z0-9-]{10,}",  # Slack
    r"xapp-\d-[A-Za-z0-9-]{20,}",
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"sk-(?:proj-|svcacct-|admin-|ant-|or-)[\w-]{20,}",  # OpenAI, Anthropic, OpenRouter
    r"sk-[A-Za-z0-9]{20,}",
    r"AIza[\w-]{35}",  # Google
    r"GOCSPX-[\w-]{28}",
    r"ya29\.[\w-]{20,}",
    r"hf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[\w-]{50,}",
    r"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    r"dop_v1_[0-9a-f]{64}",  # DigitalOcean
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",  # JSON web tokens
)
_TOKEN = re.compile("(?:" + "|".join(_TOKENS) + r")(?![A-Za-z0-9])")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----"
    r"(?=[\s\S]{0,400}?[A-Za-z0-9+/]{40})"  # a program that looks for one has its first line alone
    r"(?:\s*[\w-]+: [^\n]*\n)*[A-Za-z0-9+/=\s\\\"']*"  # base64; in source code, strings of it
    r"(?:-----END (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----)?"
)
_USER_AND_PASSWORD = re.compile(r"://([^\s/:@\"'<>]{1,64}:[^\s/@\"'<>]{1,128})@(?=[\w\[])")


def keys(text: str, tokens: Iterable[int]) -> Iterator[Place]:
    """`tokens`: where long ones may begin."""
    places = [Place(*match.span()) for start in tokens if (match := _TOKEN.match(text, start))]
    if "PRIVATE KEY" in text:
        places += [Place(*match.span()) for match in _PRIVATE_KEY.finditer(text)]
    if "@" in text:
        places += [Place(*match.span(1)) for match in _USER_AND_PASSWORD.finditer(text)]
    return iter(sorted(places, key=lambda place: (place.start, -place.end)))
