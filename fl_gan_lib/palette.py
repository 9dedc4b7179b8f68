"""One colour for each role, in all notebooks, on all pages and in the explorer.

They are Okabe and Ito's (2008), which colour-blind readers can tell apart. The light ones are darker here, so that text
in them has a contrast of at least 4.5 on white.
"""

VICTIM = "#0072B2"  # blue
ATTACKER = "#B84A00"  # vermilion
HONEST = "#00795A"  # green: an honest federation, where nobody attacks
BASELINE = "#A0457E"  # purple: what a result is compared with, such as one client alone, or the oracle
ANCHOR = "#666666"  # grey: noise, real images, a class that nobody holds

# For curves without a role.
OTHERS = ("#000000", "#7A4A12")
