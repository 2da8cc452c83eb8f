"""At a learning rate that is too high, an uncapped model's scores and logits run away, and its capped twin's do not."""

from gemmule.studies import soft_caps


def test_caps_hold_what_runs_away_without_them():
    capped, uncapped = (soft_caps.train(*caps, learning_rate=0.3, steps=25) for caps in soft_caps.CAPS.values())
    assert capped.score <= 50
    assert capped.logit <= 30
    assert uncapped.score > 500
    assert uncapped.logit > 60


def test_at_a_sound_learning_rate_nothing_runs_away():
    for caps in soft_caps.CAPS.values():
        seen = soft_caps.train(*caps, learning_rate=0.003, steps=10)
        assert seen.score < 25
        assert seen.logit < 15
