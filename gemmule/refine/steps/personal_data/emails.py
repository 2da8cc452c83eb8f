"""E-mail addresses: what stands around an @, if it ends in letters as a domain of the net does.

Those of example.com are masked too: whether an address is somebody's can't be seen in it. Left as they are:
`git@github.com:owner/name`, which names a repository; `package@1.2.3`, `icon@2x.png`, `user@1000.service`, which end in
no top-level domain; a call in code, `a@b.mean()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemmule.refine.steps.personal_data.masking import Place, occurrences
from gemmule.refine.steps.personal_data.shape import SPACELESS

_NAMES = (re.compile(rf"(?:[.+%'-]|[^\W{SPACELESS}])+"), re.compile(r"[\w.+%'-]+"))
_DOMAINS = (re.compile(r"[A-Za-z0-9À-ɏ.-]+"), re.compile(r"[\w.-]+"))
_LONGEST_NAME, _LONGEST_DOMAIN = 64, 253  # characters; RFC 5321, 4.5.3.1
_VERSION = re.compile(r"v?\d+\.\d")
_REPOSITORIES = {"git", "hg", "svn"}
_NO_DOMAINS = {
    "avif", "bmp", "bz2", "cjs", "conf", "cpp", "css", "csv", "deb", "dll", "exe", "gif", "gz", "hpp", "htm", "html",
    "ico", "ini", "internal", "jar", "java", "jpeg", "jpg", "js", "json", "jsx", "lan", "local", "localdomain", "log",
    "mjs", "mount", "pdf", "png", "rpm", "scope", "scss", "service", "slice", "socket", "svg", "tar", "target", "tgz",
    "tif", "timer", "toml", "ts", "tsx", "tsv", "txt", "war", "webp", "whl", "xml", "xz", "yaml", "yml", "zst",
}  # fmt: skip


def emails(text: str) -> Iterator[Place]:
    for at in occurrences(text, "@"):
        name, domain = _name(text, at), _domain(text, at)
        if name and domain:
            end = at + 1 + len(domain)
            of_repository = name in _REPOSITORIES and text[end : end + 1] in (":", "/")
            if not of_repository and text[end : end + 1] not in ("(", "["):
                yield Place(at - len(name), end)


def _name(text: str, at: int) -> str:
    backwards = text[max(0, at - _LONGEST_NAME - 1) : at][::-1]
    found = next((match for pattern in _NAMES if (match := pattern.match(backwards))), None)
    name = found[0][::-1].lstrip("'.+%-") if found else ""
    return name if len(name) <= _LONGEST_NAME else ""


def _domain(text: str, at: int) -> str:
    ahead = text[at + 1 : at + 2 + _LONGEST_DOMAIN]
    found = next((match for pattern in _DOMAINS if (match := pattern.match(ahead))), None)
    domain = found[0].rstrip(".-_") if found else ""
    *labels, last = domain.split(".")
    ends_well = last.startswith("xn--") or (len(last) > 1 and last.isalpha() and last.lower() not in _NO_DOMAINS)
    if not labels or not ends_well or not all(labels) or _VERSION.match(domain) or len(domain) > _LONGEST_DOMAIN:
        return ""
    return domain
