"""The exercises of notebook 07: who is never drawn, masks that cancel, and what a mean of two gives away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_never(never_drawn: Callable[[int, int, int], float]) -> None:
    for clients, drawn, rounds in ((10, 2, 5), (10_000, 100, 200)):
        case = f"For {clients:,} clients, {drawn} drawn a round and {rounds} rounds"
        found = as_number(never_drawn(clients, drawn, rounds), case)
        share = drawn / clients
        right = (1 - share) ** rounds
        named = {
            "you return the chance to be drawn at least once. The task asks for the opposite.": 1 - right,
            "you return the chance to be drawn in every round.": share**rounds,
            "you return the expected number of turns. The task asks for a probability.": rounds * share,
            "you return the chance for one round. Over several rounds the chances multiply.": 1 - share,
        }
        if abs(found - right) < 1e-9:
            continue
        for words, wrong in named.items():
            if abs(found - wrong) < 1e-9:
                raise Mistake(f"{case} {words}")
        raise Mistake(f"{case} you return {found:.4g}, and it should be {right:.4g}.")


NEVER = Exercise(
    name="07.1",
    title="Never drawn",
    level="easy",
    minutes=10,
    task="""In each round the server draws some of the clients at random, independently of the round before. Your
function gets the number of clients, how many are drawn for a round, and the number of rounds. It returns the
probability that the attacker is never drawn.

Then find out how likely that is for an attacker among a million clients, a thousand of them drawn, in 5,000 rounds.""",
    hint="In one round the attacker is left out with probability $1 - m/K$. For all rounds the probabilities multiply.",
    answer="never_drawn",
    stub="""def never_drawn(clients, drawn, rounds):
    \"\"\"The probability that one client is drawn in none of the rounds.\"\"\"
    ...  # your code""",
    solution="""def never_drawn(clients, drawn, rounds):
    \"\"\"The probability that one client is drawn in none of the rounds.\"\"\"
    return (1 - drawn / clients) ** rounds""",
    explanation="""Among a million clients it is 0.7 %: five turns are expected, so hardly anybody misses all of them.
What such an attacker cannot do is take part in many rounds in a row.""",
    wrong={
        """def never_drawn(clients, drawn, rounds):
    return 1 - (1 - drawn / clients) ** rounds""": "opposite",
        """def never_drawn(clients, drawn, rounds):
    return rounds * drawn / clients""": "expected number of turns",
        """def never_drawn(clients, drawn, rounds):
    return 1 - drawn / clients""": "chances multiply",
    },
    check=check_never,
)


def check_masks(masked: Callable[[list[np.ndarray], np.random.Generator], list[np.ndarray]]) -> None:
    updates = [np.random.default_rng(number).normal(size=2000) for number in range(4)]
    given = [update.copy() for update in updates]
    found = masked(given, np.random.default_rng(7))
    if not isinstance(found, list | tuple) or len(found) != 4:
        raise Mistake("Return a list with one masked update for each client.")
    try:
        found = [np.asarray(one, dtype=float) for one in found]
    except (TypeError, ValueError):
        raise Mistake("Each masked update must be an array of numbers.") from None
    if any(one.shape != (2000,) for one in found):
        raise Mistake("Each masked update must have the shape of the update.")
    if not all(np.array_equal(one, update) for one, update in zip(given, updates, strict=True)):
        raise Mistake("You change the updates that you were given. Make copies: `update + mask` is a new array.")
    masks = [one - update for one, update in zip(found, updates, strict=True)]
    bare = [number for number, mask in enumerate(masks) if np.abs(mask).max() < 1e-9]
    if bare:
        raise Mistake(f"The update of client {bare[0]} is not masked: the server would see it.")
    if np.abs(sum(masks)).max() > 1e-6:
        raise Mistake(
            "The masks do not cancel: the sum of the masked updates differs from the sum of the updates. What one "
            "client of a pair adds, the other must subtract."
        )
    if min(mask.std() for mask in masks) < 5:
        raise Mistake(
            "Your masks are small beside the updates, so the server could guess them. Use a standard deviation of 10."
        )
    shared = np.corrcoef(masks)[~np.eye(4, dtype=bool)]
    if np.abs(shared).max() > 0.8:
        raise Mistake(
            "Two clients have the same mask, but for its sign. If these two put their messages together, or the server "
            "guesses which two they are, the masks cancel. Give every *pair* of clients a mask of its own."
        )


MASKS = Exercise(
    name="07.2",
    title="Masks that cancel",
    level="medium",
    minutes=20,
    task="""Write the heart of secure aggregation (Bonawitz et al. 2017). Your function gets the updates of some
clients, a list of arrays, and a random generator. Every two clients agree on a mask, a random array that nobody else
knows (take a normal distribution with a standard deviation of 10). One of the two adds it to its update, and the other
subtracts it. Return the list of masked updates. The server adds them up, and gets the sum of the updates.""",
    hint="Begin with copies of the updates. Two loops, `for i in range(n)` and `for j in range(i)`, go through all "
    "pairs. `rng.normal(0, 10, size)` draws a mask.",
    answer="masked",
    stub="""def masked(updates, rng):
    \"\"\"The updates with masks that cancel in their sum.\"\"\"
    ...  # your code""",
    solution="""def masked(updates, rng):
    \"\"\"The updates with masks that cancel in their sum.\"\"\"
    hidden = [update.copy() for update in updates]
    for i in range(len(updates)):
        for j in range(i):
            mask = rng.normal(0, 10, updates[i].shape)
            hidden[i] += mask
            hidden[j] -= mask
    return hidden""",
    explanation="""The server sees noise from each client, and the exact sum. In SecAgg+ the masks come from keys that
two clients agree on, and are whole numbers, so that they cancel exactly. Shares of the keys are left with others, for
clients who drop out. The attack does not mind: it needs nothing but the global model.""",
    wrong={
        """def masked(updates, rng):
    return [update + rng.normal(0, 10, update.shape) for update in updates]""": "do not cancel",
        """def masked(updates, rng):
    mask = rng.normal(0, 10, updates[0].shape)
    return [updates[0] + mask, updates[1] - mask, *updates[2:]]""": "not masked",
        """def masked(updates, rng):
    hidden = []
    for one, other in zip(updates[::2], updates[1::2]):
        mask = rng.normal(0, 10, one.shape)
        hidden += [one + mask, other - mask]
    return hidden""": "Give every *pair*",
    },
    check=check_masks,
)


def check_other(other_update: Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    victim, own = rng.normal(size=50), rng.normal(size=50)
    for others, mine in ((300, 100), (100, 400)):
        mean = (others * victim + mine * own) / (others + mine)
        found = other_update(mean, own, mine, others)
        try:
            found = np.asarray(found, dtype=float)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.shape != (50,):
            raise Mistake("Return an array of the shape of the mean: the update of the other participant.")
        if np.allclose(found, victim):
            continue
        case = f"With {others} examples of the other and {mine} of your own"
        if np.allclose(found, 2 * mean - own):
            raise Mistake(f"{case} you count both the same. FedAvg weighs each by its number of examples.")
        if np.allclose(found, mean - own):
            raise Mistake(f"{case} you subtract your update from the mean as it is. It is in there with its weight.")
        if np.allclose(found, ((others + mine) * mean - others * own) / mine):
            raise Mistake(f"{case} you take the two numbers of examples for each other.")
        error = np.abs(found - victim).max()
        raise Mistake(f"{case} your answer differs from the other's update by up to {error:.2f}.")


OTHER = Exercise(
    name="07.3",
    title="What a mean of two gives away",
    level="medium",
    minutes=15,
    task="""Secure aggregation hides single updates in their mean. In a federation of *two*, that does not help. Write
what the attacker computes: your function gets the weighted mean of the two updates (`fedavg`), the attacker's own
update, its number of examples, and that of the other. It returns the update of the other.""",
    hint="The mean is $(n_1 w_1 + n_2 w_2) / (n_1 + n_2)$. Solve for $w_1$.",
    answer="other_update",
    stub="""def other_update(mean, own, own_examples, other_examples):
    \"\"\"The update of the other of two participants.\"\"\"
    ...  # your code""",
    solution="""def other_update(mean, own, own_examples, other_examples):
    \"\"\"The update of the other of two participants.\"\"\"
    total = own_examples + other_examples
    return (total * mean - own_examples * own) / other_examples""",
    explanation="""So a mean protects an update only among many, of whom most do not work together. And it protects
single updates from the server. What the class looks like is in the mean itself, for as long as the model learns it.""",
    wrong={
        """def other_update(mean, own, own_examples, other_examples):
    return 2 * mean - own""": "count both the same",
        """def other_update(mean, own, own_examples, other_examples):
    return mean - own""": "with its weight",
        """def other_update(mean, own, own_examples, other_examples):
    total = own_examples + other_examples
    return (total * mean - other_examples * own) / own_examples""": "for each other",
    },
    check=check_other,
)

EXERCISES = (NEVER, MASKS, OTHER)
