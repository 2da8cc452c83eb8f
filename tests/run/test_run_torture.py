"""Runs that are killed with -9, and checkpoints that are damaged: in short; `make torture` is the long form."""

from __future__ import annotations

import torture


def test_killed_runs_end_as_undisturbed_ones_and_damage_is_seen(tmp_path):
    recipe = torture.write_recipe(tmp_path, tokens=8_000)
    fell, different = torture.kill_and_compare(recipe, 2, 0, "--model", "live")
    assert fell.total() == 2
    assert fell["checkpoint"]  # the other kill falls where it may: on a busy machine, there too
    assert different == []
    assert torture.corrupt(tmp_path / "whole" / "models" / "live", 60, seed=0) == 0
