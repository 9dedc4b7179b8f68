"""One colour for each role, in all notebooks, on all pages and in the explorer.

After Okabe and Ito (2008), whose hues colour-blind readers can tell apart. Some are darker here, so that text in them
has a contrast of at least 4.5 on white.
"""

VICTIM = "#0072B2"  # blue
ATTACKER = "#B84A00"  # vermilion
HONEST = "#00795A"  # green: an honest federation, where nobody attacks
BASELINE = "#A0457E"  # purple: what a result is compared with, such as one client alone, or the oracle
ANCHOR = "#666666"  # grey: ends of a scale, such as noise or training in one place; the server, and what all share

# For what has no role.
OTHERS = ("#000000", "#7A4A12", "#4B3F9E", "#6B6B00", "#00708A", "#8A2D2D")
