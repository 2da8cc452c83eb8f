"""What a web page has beside its text: cookie banners, navigation, footers."""

from __future__ import annotations

from random import Random

NAMES = (
    "Harbour Gazette", "Northfield Review", "Daily Lantern", "Old Mill Reader", "Riverside Journal", "The Quiet Page",
    "Stone Bridge Times", "Hilltop Courier", "Green Lane Library", "Copper Kettle Blog", "Westgate Post",
)  # fmt: skip
BEFORE = (
    "{name} uses cookies to give you the best experience. Accept all cookies or manage your settings.",
    "Home | News | Books | Culture | About {name} | Contact",
    "Sign in to {name} or create a free account to read more stories.",
)
AFTER = (
    "Share this story from {name} with your friends by mail or on social media.",
    "Subscribe to the {name} newsletter and get the best stories every week.",
    "Copyright 2024 {name}. All rights reserved. Read our terms of use and our privacy policy.",
)


def page(text: str, site: int, random: Random) -> tuple[str, tuple[str, ...]]:
    """A text between lines that all pages of a site have, and those lines."""
    name = f"{NAMES[site % len(NAMES)]} {site // len(NAMES) + 1}" if site >= len(NAMES) else NAMES[site]
    before = [line.format(name=name) for line in random.sample(BEFORE, 2)]
    after = [line.format(name=name) for line in random.sample(AFTER, 2)]
    return "\n".join([*before, "", text, "", *after]), (*before, *after)
