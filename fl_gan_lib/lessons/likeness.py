"""The exercises of notebook 08: the rank of a person, a test for copies, and what guessing would get."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_ranks(ranks: Callable[[Tensor, int], Tensor]) -> None:
    logits = torch.randn(6, 41, generator=torch.Generator().manual_seed(8))
    logits[0, 7] = 9.0  # there the person is the first
    found = ranks(logits, 7)
    try:
        found = torch.as_tensor(found, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        found = torch.zeros(0)
    if found.shape != (6,):
        raise Mistake("For six images, return a tensor of six numbers: the rank of the person for each image.")
    right = (logits > logits[:, 7:8]).sum(1) + 1.0
    named = {
        "Your ranks begin at 0. The person with the largest logit has rank 1.": right - 1,
        "Your ranks count from the *smallest* logit. The largest one has rank 1.": 42 - right,
        "You return who is at the place of that number. The task asks for the place of the person: sort twice, or "
        "count the larger logits.": logits.argsort(1, descending=True)[:, 7].float(),
        "You compare the images with each other. Each image has a ranking of its own: compare along its row.": (
            (logits[:, 7:8] < logits[:, 7]).sum(1) + 1.0
        ),
    }
    if torch.equal(found, right):
        return
    for words, wrong in named.items():
        if torch.equal(found, wrong):
            raise Mistake(words)
    raise Mistake(
        f"For the second image of the check you return {found[1]:.0f}, and it should be {right[1]:.0f}: one more than "
        "the number of answers with a larger logit."
    )


RANKS = Exercise(
    name="08.1",
    title="The rank of a person",
    level="easy",
    minutes=10,
    task="""Write the heart of the function `ranks` of section 3. It gets the logits of an identifier, of shape (images,
answers), and the number of a person. It returns, for each image, the place of that person among all answers: 1 if the
person has the largest logit, 2 if one other answer has a larger one, and so on.""",
    hint="The rank is one more than the number of larger logits in the same row. `logits[:, person : person + 1]` "
    "keeps the second dimension, so that it can be compared with all columns.",
    answer="rank_of",
    stub="""def rank_of(logits, person):
    \"\"\"The place of `person` for each row of `logits`; 1 is the first.\"\"\"
    ...  # your code""",
    solution="""def rank_of(logits, person):
    \"\"\"The place of `person` for each row of `logits`; 1 is the first.\"\"\"
    return (logits > logits[:, person : person + 1]).sum(1) + 1""",
    explanation="""The share of images with rank 1 is the identification. The median rank says more where that share
is near 0. By chance, it would be 21 of 41 answers.""",
    wrong={
        """def rank_of(logits, person):
    return (logits > logits[:, person : person + 1]).sum(1)""": "begin at 0",
        """def rank_of(logits, person):
    return logits.argsort(1, descending=True)[:, person]""": "sort twice",
        """def rank_of(logits, person):
    return (logits <= logits[:, person : person + 1]).sum(1)""": "from the *smallest*",
    },
    check=check_ranks,
)


def check_deals(share_of_deals: Callable[[np.ndarray], float]) -> None:
    distances = np.array([0.31, 0.42, 0.28, 0.55, 0.37, 0.46, 0.44, 0.52, 0.39, 0.61])
    found = as_number(share_of_deals(distances), "For ten distances")
    deals = [(distances[list(own)].mean(), own) for own in combinations(range(10), 6)]
    true = distances[:6].mean()
    gaps = np.array([mean - np.delete(distances, own).mean() for mean, own in deals])
    true_gap = true - distances[6:].mean()
    right = (gaps <= true_gap + 1e-12).mean()
    named = {
        "You return the *number* of deals. Divide by how many there are.": (gaps <= true_gap + 1e-12).sum(),
        "You leave the true deal out. It is one of the 210, and counts: a share of 0 would claim more than 210 deals "
        "can show.": (gaps < true_gap - 1e-12).mean(),
        "You count the deals in which the six lie *farther* away. A copy lies nearer.": (
            gaps >= true_gap - 1e-12
        ).mean(),
    }
    if abs(found - right) < 1e-6:
        return
    for words, wrong in named.items():
        if abs(found - wrong) < 1e-6:
            raise Mistake(words)
    raise Mistake(
        f"For the distances of the check you return {found:.4f}, and it should be {right:.4f}: of the 210 ways to pick "
        "six of ten, the share in which the mean of the six, minus the mean of the other four, is as small as it is "
        "for the first six, or smaller."
    )


DEALS = Exercise(
    name="08.2",
    title="A test for copies",
    level="medium",
    minutes=20,
    task="""Write a small form of the test of section 4. Your function gets the distances of a fake from ten photographs
of a person, an array of ten numbers. The first six photographs were in the federation. Take as a score: the mean
distance from these six, minus the mean distance from the other four. Then deal out the ten photographs in all 210 ways,
six and four, and return the share of deals whose score is as small as the true one, or smaller. (Allow for
rounding: compare with the true score plus 1e-12.)""",
    hint="`itertools.combinations(range(10), 6)` goes through all ways to pick six of ten places. "
    "`np.delete(distances, list(own))` has the other four.",
    answer="share_of_deals",
    stub="""def share_of_deals(distances):
    \"\"\"How rare the true deal is: the share of all deals in which the six lie as near, or nearer.\"\"\"
    ...  # your code""",
    solution="""from itertools import combinations


def share_of_deals(distances):
    \"\"\"How rare the true deal is: the share of all deals in which the six lie as near, or nearer.\"\"\"

    def score(own):
        return distances[list(own)].mean() - np.delete(distances, list(own)).mean()

    true = score(range(6))
    scores = [score(own) for own in combinations(range(10), 6)]
    return np.mean([one <= true + 1e-12 for one in scores])""",
    explanation="""This is a *permutation test*. If it made no difference which photographs were in the federation, each
of the 210 deals would be as likely to have the smallest score. So a share of 0.05 or less comes about in one of twenty
cases by chance. The smallest share that 210 deals can give is 1/210.""",
    wrong={
        """from itertools import combinations


def share_of_deals(distances):
    score = lambda own: distances[list(own)].mean() - np.delete(distances, list(own)).mean()
    return np.mean([score(own) < score(range(6)) - 1e-12 for own in combinations(range(10), 6)])""": (
            "leave the true deal out"
        ),
        """from itertools import combinations


def share_of_deals(distances):
    score = lambda own: distances[list(own)].mean() - np.delete(distances, list(own)).mean()
    return np.mean([score(own) >= score(range(6)) - 1e-12 for own in combinations(range(10), 6)])""": "farther",
        """from itertools import combinations


def share_of_deals(distances):
    score = lambda own: distances[list(own)].mean() - np.delete(distances, list(own)).mean()
    return sum(score(own) <= score(range(6)) + 1e-12 for own in combinations(range(10), 6))""": "Divide",
    },
    check=check_deals,
)


def check_guess(by_guessing: Callable[[int, int], float]) -> None:
    def right(people: int, matches: int) -> float:
        hits = [sum(place == who for place, who in enumerate(order)) for order in permutations(range(people))]
        return float(np.mean([hit >= matches for hit in hits]))

    for people, matches in ((3, 2), (5, 2)):
        case = f"For {people} people and {matches} matches"
        found = as_number(by_guessing(people, matches), case)
        if abs(found - right(people, matches)) < 0.03:
            continue
        odds = 1 / people
        if abs(found - (right(people, matches) - right(people, matches + 1))) < 0.03:
            raise Mistake(f"{case} you count those with exactly {matches}. The task asks for *at least* {matches}.")
        binomial = 1 - sum(
            [1, people, people * (people - 1) / 2][k] * odds**k * (1 - odds) ** (people - k) for k in range(matches)
        )
        if abs(found - binomial) < 0.03:
            raise Mistake(
                f"{case} you let the visitor name the same person twice. Each person is named once: shuffle them."
            )
        raise Mistake(
            f"{case} you return {found:.3f}, and it should be about {right(people, matches):.3f}. Shuffle the people "
            "many times, and count how often at least that many are in their place."
        )


GUESS = Exercise(
    name="08.3",
    title="What guessing would get",
    level="medium",
    minutes=15,
    task="""A visitor gets ten photographs of ten people, and fakes of each in another order, without names. The visitor
matches them one to one. How likely is it to get at least four right by guessing? Write a function that gets the number
of people and the number of matches, and returns the probability of at least that many by guessing. You may simulate it
(20,000 times is enough: an error of 0.03 is allowed).

Then compare with how many of the shuffled fakes in section 2 you matched.""",
    hint="`np.random.default_rng(0).permutation(people)` is one guess. Where it equals `np.arange(people)`, the "
    "match is right.",
    answer="by_guessing",
    stub="""def by_guessing(people, matches):
    \"\"\"The probability of at least `matches` right matches, if all are guessed.\"\"\"
    ...  # your code""",
    solution="""def by_guessing(people, matches):
    \"\"\"The probability of at least `matches` right matches, if all are guessed.\"\"\"
    rng = np.random.default_rng(0)
    guesses = np.stack([rng.permutation(people) for _ in range(20_000)])
    right = (guesses == np.arange(people)).sum(1)
    return np.mean(right >= matches)""",
    explanation="""By guessing, a visitor gets one match on average, however many people there are. Four or more of ten
happen in about 2 % of cases.""",
    wrong={
        """def by_guessing(people, matches):
    rng = np.random.default_rng(0)
    guesses = np.stack([rng.permutation(people) for _ in range(20_000)])
    return np.mean((guesses == np.arange(people)).sum(1) == matches)""": "at least",
        """def by_guessing(people, matches):
    rng = np.random.default_rng(0)
    guesses = rng.integers(people, size=(20_000, people))
    return np.mean((guesses == np.arange(people)).sum(1) >= matches)""": "named once",
    },
    check=check_guess,
)

EXERCISES = (RANKS, DEALS, GUESS)
