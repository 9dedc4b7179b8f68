"""The explorer: pick a class, slide through the rounds, start an attack; as a widget and as a page."""
