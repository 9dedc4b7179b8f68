"""The explorer: pick a digit, slide through the rounds, start an attack; as a widget and as a page."""
