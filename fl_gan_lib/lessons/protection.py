"""The exercises of notebook 06: a crowd for a privacy budget, what a median bounds, a server that remembers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def _spent(z: float, delta: float) -> float:
    """An accountant that is quick and easy to follow: 60 times the Gaussian mechanism."""
    return math.sqrt(60 * 2 * math.log(1.25 / delta)) / z


def check_crowd(crowd_needed: Callable[[Callable[[float, float], float], float], int]) -> None:
    epsilon = 8
    found = as_number(crowd_needed(_spent, epsilon), "For epsilon 8")
    fits = {
        "right": lambda n: _spent(n / 41, n**-1.1),
        "You use one delta for every crowd. It must fall with the number of participants: `n**-1.1`.": (
            lambda n: _spent(n / 41, 0.01)
        ),
        "Your z stays at 1. More noise is what makes epsilon smaller: with n participants z can be n / 41, and the "
        "noise on the mean stays as it is.": lambda n: _spent(1, n**-1.1),
        "You take delta = 1/n. The task asks for less than that: `n**-1.1`.": lambda n: _spent(n / 41, 1 / n),
        "You divide by n. The noise on the *sum* is z S. On the mean it is z S / n, so z must grow with n.": (
            lambda n: _spent(41 / n, n**-1.1)
        ),
    }
    smallest = {words: next((n for n in range(41, 2000) if fit(n) <= epsilon), 2000) for words, fit in fits.items()}
    right = smallest.pop("right")
    if found == right:
        return
    if found == right - 1:
        raise Mistake(f"With {right - 1} participants more than epsilon 8 is spent. Return the first number that fits.")
    for words, wrong in smallest.items():
        if found == wrong:
            raise Mistake(words)
    if not found == int(found):
        raise Mistake("There are only whole participants. Return a whole number.")
    raise Mistake(f"For the accountant of the check you return {found:.0f}, and it should be {right}.")


CROWD = Exercise(
    name="06.1",
    title="How many participants does epsilon 8 take?",
    level="medium",
    minutes=20,
    task="""In section 2, forty-one participants bear the noise of $z = 1$: on the mean it has the standard deviation
$S/41$. Leave the noise on the mean as it is, and find the smallest crowd, of 41 participants or more, that spends at
most a given epsilon. Your function gets `spent(z, delta)`, which returns the epsilon that all rounds spend, and the
epsilon that is allowed. It returns the number of participants $n$. For every $n$ take $\\delta = n^{-1.1}$, which is
below $1/n$.

Then find out what epsilon 8 takes with the RDP accountant of section 2: there `spent` is
`lambda z, delta: spent_epsilon(z, sample_rate=1, steps=60, delta=delta)`.""",
    hint="The noise on the mean is $z S / n$, and it should stay at $S / 41$. So what is $z$? Count upwards from 41, "
    "and stop at the first crowd that fits.",
    answer="crowd_needed",
    stub="""def crowd_needed(spent, epsilon):
    \"\"\"The smallest number of participants, from 41 on, that spend at most this epsilon.\"\"\"
    ...  # your code""",
    solution="""def crowd_needed(spent, epsilon):
    \"\"\"The smallest number of participants, from 41 on, that spend at most this epsilon.\"\"\"
    n = 41
    while spent(n / 41, n**-1.1) > epsilon:
        n += 1
    return n""",
    explanation="""With the accountant of section 2 the answer is 153. With a fixed delta of 0.01 it would be 144, but
a delta of 0.01 is larger than 1/144: a mechanism that publishes everything about one participant of 144, picked at
random, would be allowed. (`spent_epsilon(..., accountant="prv")` books more tightly, and 139 are enough.)""",
    wrong={
        """def crowd_needed(spent, epsilon):
    n = 41
    while spent(n / 41, 0.01) > epsilon:
        n += 1
    return n""": "fall with the number",
        """def crowd_needed(spent, epsilon):
    n = 41
    while spent(n / 41, 1 / n) > epsilon:
        n += 1
    return n""": "less than that",
        """def crowd_needed(spent, epsilon):
    n = 41
    while n < 2000 and spent(1, n**-1.1) > epsilon:
        n += 1
    return n""": "stays at 1",
    },
    check=check_crowd,
)


def check_reach(reach: Callable[[Tensor], tuple[float, float]]) -> None:
    honest = torch.tensor([0.9, -0.4, 0.1, 2.0, 0.3, -1.5, 0.5, -0.2, 0.6])
    answer = reach(honest)
    try:
        low, high = (as_number(value, "For nine honest values") for value in answer)
    except (TypeError, ValueError):
        raise Mistake("Return two numbers: the lowest and the highest median.") from None
    in_order = honest.sort().values
    right = ((in_order[3] + in_order[4]) / 2, (in_order[4] + in_order[5]) / 2)

    def is_near(wrong: tuple[Tensor, Tensor]) -> bool:
        return all(abs(one - two) < 1e-4 for one, two in zip((low, high), wrong, strict=True))

    if is_near(right):
        return
    if is_near((right[1], right[0])):
        raise Mistake("The two numbers are right, in the wrong order. The lowest comes first.")
    if is_near((in_order[4], in_order[4])):
        raise Mistake(
            "This is the median of the nine. The tenth value shifts the middle: of ten values it lies between the "
            "fifth and the sixth."
        )
    if is_near((in_order[0], in_order[-1])):
        raise Mistake("The mean of ten could be moved that far, and farther. The median stays near the middle.")
    if is_near((in_order[3], in_order[5])):
        raise Mistake("Of ten values the median is the *mean* of the two in the middle, the fifth and the sixth.")
    raise Mistake(
        f"For the nine values of the check you return {low:.3f} and {high:.3f}, and it should be {right[0]:.3f} and "
        f"{right[1]:.3f}. Put the tenth value below all others first, and sort."
    )


REACH = Exercise(
    name="06.2",
    title="What the attacker can do to a median",
    level="medium",
    minutes=15,
    task="""Nine honest clients send one number each. The attacker is the tenth, and may send whatever it wants. The
server takes the median of the ten: the mean of the fifth and the sixth in order. Between which two numbers does the
median lie, whatever the attacker sends? Your function gets the nine values, a tensor in no order, and returns two
numbers: the lowest and the highest median.""",
    hint="The median never falls when a value rises. So it is lowest when the attacker sends a number below all "
    "others. Which of the nine are then the fifth and the sixth?",
    answer="reach",
    stub="""def reach(honest):
    \"\"\"The lowest and the highest median of nine honest values and one more.\"\"\"
    ...  # your code""",
    solution="""def reach(honest):
    \"\"\"The lowest and the highest median of nine honest values and one more.\"\"\"
    in_order = honest.sort().values
    return ((in_order[3] + in_order[4]) / 2).item(), ((in_order[4] + in_order[5]) / 2).item()""",
    explanation="""The attacker can move each number of the model by about half the distance between two neighbours in
the middle, and never farther. That is little in one round. But it may be in the same direction in every round, and for
each of 184,715 numbers. To use all of this freedom the attacker sends a *large* update: this is what *sends ten times
as much* in section 5 does.""",
    wrong={
        """def reach(honest):
    return honest.median().item(), honest.median().item()""": "shifts the middle",
        """def reach(honest):
    return honest.min().item(), honest.max().item()""": "mean of ten",
        """def reach(honest):
    in_order = honest.sort().values
    return in_order[3].item(), in_order[5].item()""": "the *mean* of the two",
    },
    check=check_reach,
)


def check_memory(standing_out: Callable[[Tensor], Tensor]) -> None:
    random = torch.Generator().manual_seed(8)
    seen = torch.randn(12, 10, generator=random)
    seen[:, 9] += 2
    scores = standing_out(seen)
    try:
        scores = torch.as_tensor(scores, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        scores = torch.zeros(0)
    if scores.shape != (10,):
        raise Mistake("For 12 rounds and 10 clients, return a tensor with one number for each of the 10 clients.")

    def scores_of(values: Tensor) -> Tensor:
        rest = [values[torch.arange(len(values)) != client] for client in range(len(values))]
        return torch.stack([(own - others.mean()) / others.std() for own, others in zip(values, rest, strict=True)])

    means = seen.mean(0)
    if torch.allclose(scores, scores_of(means), atol=1e-3):
        return
    named = {
        "You look at the last round only. Take the mean over all rounds first.": scores_of(seen[-1]),
        "You compare each client with the mean and the spread of *all* clients, itself included. The attacker makes "
        "both larger, and hides behind them. Leave the client itself out.": (means - means.mean()) / means.std(),
        "You return how far the client lies above the others. Divide by their standard deviation, so that different "
        "signals can be compared.": torch.stack([(10 * mean - means.sum()) / 9 for mean in means]),
        "You score each round by itself, and then take the mean. Take the mean over the rounds first: it is what makes "
        "the noise of single rounds small.": torch.stack([scores_of(row) for row in seen]).mean(0),
    }
    for words, wrong in named.items():
        if torch.allclose(scores, wrong, atol=1e-3):
            raise Mistake(words)
    raise Mistake(
        f"For the last client of the check you return {scores[9]:.2f}, and it should be {scores_of(means)[9]:.2f}: "
        "its mean over the rounds, minus the mean of the other nine, over their standard deviation."
    )


MEMORY = Exercise(
    name="06.3",
    title="A server that remembers",
    level="medium",
    minutes=20,
    task="""Write the score of section 6. Your function gets what a server has seen of one signal so far, a tensor with
a row for each round and a column for each client. Take each client's mean over the rounds. The client's score is: how
many standard deviations of the *other* clients' means does it lie above their mean? (Take `std()` of torch as it is.
Large values are suspicious here.) Return a tensor with one score for each client.""",
    hint="`seen.mean(0)` has the mean of each client. To leave out client `c`, use "
    "`torch.cat([means[:c], means[c + 1 :]])`.",
    answer="standing_out",
    stub="""def standing_out(seen):
    \"\"\"How far each client stands out from the others; `seen` has the shape (rounds, clients).\"\"\"
    ...  # your code""",
    solution="""def standing_out(seen):
    \"\"\"How far each client stands out from the others; `seen` has the shape (rounds, clients).\"\"\"
    means = seen.mean(0)
    scores = []
    for client, mean in enumerate(means):
        others = torch.cat([means[:client], means[client + 1 :]])
        scores.append((mean - others.mean()) / others.std())
    return torch.stack(scores)""",
    explanation="""The library's `remembered` does this for every round of a run. The mean over 12 rounds has about a
third of the noise of a single round (1 over the square root of 12), if the rounds are independent.""",
    wrong={
        """def standing_out(seen):
    means = seen.mean(0)
    return (means - means.mean()) / means.std()""": "itself included",
        """def standing_out(seen):
    last = seen[-1]
    rest = [torch.cat([last[:c], last[c + 1 :]]) for c in range(len(last))]
    return torch.stack([(value - others.mean()) / others.std() for value, others in zip(last, rest)])""": "last round",
        """def standing_out(seen):
    means = seen.mean(0)
    return torch.stack([m - torch.cat([means[:c], means[c + 1 :]]).mean() for c, m in enumerate(means)])""": (
            "Divide by their standard deviation"
        ),
    },
    check=check_memory,
)

EXERCISES = (CROWD, REACH, MEMORY)
