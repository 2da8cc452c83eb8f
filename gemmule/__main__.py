"""`python -m gemmule` is the command `gemmule`."""

from gemmule.cli import main

main()
