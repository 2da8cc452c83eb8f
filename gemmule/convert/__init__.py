"""Model folders for other programs, and the card that says what a model is."""
