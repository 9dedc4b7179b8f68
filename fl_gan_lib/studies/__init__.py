"""Experiments on the attack: many runs, what they are compared with, and the pictures of their results."""
