"""The exercises of notebook 01: what an average reveals, and how images are dealt out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from fl_gan_lib.federation import Update, fedavg
from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_share(share_of: Callable[[Sequence[int], int], float]) -> None:
    for counts, client in (([300, 100], 0), ([300, 100], 1), ([1000] * 4, 2), ([100_000, 1000, 1000, 1000], 0)):
        case = f"For the counts {counts} and client {client}"
        share, right = as_number(share_of(counts, client), case), counts[client] / sum(counts)
        if abs(share - right) < 1e-6:
            continue
        if abs(share - 1 / len(counts)) < 1e-9:
            raise Mistake(f"{case} you give every client the same share. The formula has n_k in the numerator.")
        if abs(share - counts[client] / (sum(counts) - counts[client])) < 1e-9:
            raise Mistake(f"{case} you divide by the examples of the *other* clients. n counts all examples.")
        if share > 1:
            raise Mistake(
                f"{case} your share is {share:g}. A share is a fraction, at most 1, not a percentage: divide by n, "
                "the sum of all counts."
            )
        raise Mistake(f"{case} your share is {share:.4f}, and it should be {right:.4f}. Look at n_k / n in step 4.")


SHARE = Exercise(
    name="01.1",
    title="A client that exaggerates",
    level="easy",
    minutes=5,
    task="""The server believes the `num_examples` that a client reports. Write a function that returns the share of
one client in the average: the factor in front of its weights in the formula of step 4.

Then use it: four clients hold 1,000 images each, and client 0 reports 100,000. What is its share? And how good is the
average of `fedavg([replace(updates[0], num_examples=100_000), *updates[1:]])`? (`from dataclasses import replace`) Load
it into `local_model`, and compare its accuracy with that of client 0 in step 2.""",
    hint="The factor is $n_k / n$. `num_examples[client]` is $n_k$. What is $n$?",
    answer="share_of",
    stub="""def share_of(num_examples, client):
    \"\"\"The share of `client` in the average; `num_examples` is a list with the count of each client.\"\"\"
    ...  # your code""",
    solution="""def share_of(num_examples, client):
    \"\"\"The share of `client` in the average; `num_examples` is a list with the count of each client.\"\"\"
    return num_examples[client] / sum(num_examples)""",
    explanation="""An honest client among four equal ones has a share of 0.25. The client that exaggerates has
100,000 / 103,000, which is 0.97. The average is almost exactly its own model, and has its accuracy (0.61 in the stored
run), not that of the honest average (0.68). FedAvg trusts what
clients report.""",
    wrong={
        """def share_of(num_examples, client):
    return 1 / len(num_examples)""": "the same share",
        """def share_of(num_examples, client):
    others = sum(num_examples) - num_examples[client]
    return num_examples[client] / others""": "*other* clients",
        """def share_of(num_examples, client):
    return num_examples[client]""": "at most 1",
    },
    check=check_share,
)


def check_deal(deal: Callable[[int, Sequence[float], int], Sequence[np.ndarray]]) -> None:
    for num_images, shares in (
        (1000, (0.5, 0.3, 0.2)),
        (103, (0.5, 0.25, 0.25)),
        (10, (0.25,) * 4),
    ):
        case = f"For {num_images} images and the shares {shares}"
        parts = [np.asarray(part) for part in deal(num_images, shares, 0)]
        if len(parts) != len(shares):
            raise Mistake(f"{case} you return {len(parts)} parts. Return one array of indices for each share.")
        dealt = np.concatenate(parts)
        if not np.issubdtype(dealt.dtype, np.integer) or dealt.min() < 0 or dealt.max() >= num_images:
            raise Mistake(f"{case} the parts are not indices from 0 to {num_images - 1}.")
        if len(np.unique(dealt)) < len(dealt):
            raise Mistake(
                f"{case} some images go to two clients. Shuffle once and cut once: each part begins where the one "
                "before it ended."
            )
        if len(dealt) < num_images:
            lost = num_images - len(dealt)
            raise Mistake(
                f"{case} {lost} images go to nobody. Begin each part where the one before it ended, and round only the "
                "*ends*."
            )
        for part, share in zip(parts, shares, strict=True):
            if abs(len(part) - share * num_images) > 1:
                raise Mistake(f"{case} a part has {len(part)} images, where {share * num_images:g} were asked for.")
        # Ten shuffled images come out as such runs once in a thousand times.
        if num_images > 10 and all(
            np.array_equal(np.sort(part), np.arange(part.min(), part.max() + 1)) for part in parts
        ):
            raise Mistake(
                f"{case} each part is a run of neighbours. The images are to be dealt out at random: shuffle them."
            )
    first, again, other = (np.concatenate(deal(1000, (0.5, 0.5), seed)) for seed in (1, 1, 2))
    if not np.array_equal(first, again):
        raise Mistake("The same seed gives two different splits. Make your own generator from the seed.")
    if np.array_equal(first, other):
        raise Mistake("Two seeds give the same split. Pass `seed` to `np.random.default_rng`.")


DEAL = Exercise(
    name="01.2",
    title="Unequal shares",
    level="medium",
    minutes=20,
    task="""In a real federation some clients hold far more images than others. Write a function that deals out images
at random in given shares. It returns a list with one array of indices for each client. Every image goes to exactly one
client, each share is right to within one image, and the same seed always gives the same split.""",
    hint="`np.random.default_rng(seed).permutation(num_images)` shuffles all indices. `np.cumsum(shares)` says where "
    "each part ends, as a fraction: multiply it by `num_images`, and round to whole numbers. `np.split(array, ends)` "
    "cuts an array at the positions `ends`. The end of the last part is not a cut.",
    answer="deal_unequally",
    stub="""def deal_unequally(num_images, shares, seed):
    \"\"\"Index arrays, one for each of `shares`, which sum to 1.\"\"\"
    ...  # your code""",
    solution="""def deal_unequally(num_images, shares, seed):
    \"\"\"Index arrays, one for each of `shares`, which sum to 1.\"\"\"
    shuffled = np.random.default_rng(seed).permutation(num_images)
    ends = np.round(np.cumsum(shares) * num_images).astype(int)
    return np.split(shuffled, ends[:-1])""",
    explanation="""The shuffle makes it IID in the labels, although the amounts differ. Rounding the *ends* loses no
image: each part begins where the one before it ends. Draw it with
`plot_partition(deal_unequally(len(train), (0.7, 0.2, 0.1), seed=0), train.labels)`.""",
    wrong={
        """def deal_unequally(num_images, shares, seed):
    rng = np.random.default_rng(seed)
    return [rng.choice(num_images, round(share * num_images), replace=False) for share in shares]""": "two clients",
        """def deal_unequally(num_images, shares, seed):
    shuffled, parts, start = np.random.default_rng(seed).permutation(num_images), [], 0
    for share in shares:
        parts.append(shuffled[start : start + int(share * num_images)])
        start += int(share * num_images)
    return parts""": "go to nobody",
        """def deal_unequally(num_images, shares, seed):
    ends = np.round(np.cumsum(shares) * num_images).astype(int)
    return np.split(np.arange(num_images), ends[:-1])""": "run of neighbours",
        """def deal_unequally(num_images, shares, seed):
    ends = np.round(np.cumsum(shares) * num_images).astype(int)
    return np.split(np.random.permutation(num_images), ends[:-1])""": "two different splits",
    },
    check=check_deal,
)


def check_recover(recover: Callable[[dict[str, Any], dict[str, Any], int, int], dict[str, torch.Tensor]]) -> None:
    random = torch.Generator().manual_seed(0)
    for mine, theirs in ((100, 100), (300, 100)):
        states = [
            {name: torch.randn(shape, generator=random) for name, shape in (("weight", (3, 2)), ("bias", (3,)))}
            for _ in range(2)
        ]
        average = fedavg([Update(states[0], mine), Update(states[1], theirs)])
        case = f"When you hold {mine} examples and the other client {theirs},"
        found = recover(average, states[0], mine, theirs)
        if not isinstance(found, dict) or found.keys() != average.keys():
            raise Mistake(f"{case} you must return a dictionary with the names {list(average)}, a tensor for each.")
        if _close(found, states[1]):
            continue
        if _close(found, {name: 2 * average[name] - states[0][name] for name in average}):
            raise Mistake(f"{case} your formula is off. It is right only for equal counts: the average is weighted.")
        if _close(found, {name: average[name] - mine / (mine + theirs) * states[0][name] for name in average}):
            raise Mistake(f"{case} you have taken your part away, and the rest is still multiplied by n_other / n.")
        raise Mistake(
            f"{case} the weights are not those that the other client sent. Solve the formula of step 4 for them."
        )


def _close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(
        torch.allclose(torch.as_tensor(one[name], dtype=other[name].dtype), other[name], atol=1e-4) for name in other
    )


RECOVER = Exercise(
    name="01.3",
    title="What an average of two gives away",
    level="medium",
    minutes=15,
    task="""You are one of two clients. You never see what the other one sends. But you receive the average, and you
know your own update. Write a function that computes the weights that the other client sent. (You may assume that both
counts are known.)

Then try it on real updates: average `updates[:2]` with `fedavg`, and recover `updates[1].state`.""",
    hint="For each name, $w = \\frac{n_1}{n} w^1 + \\frac{n_2}{n} w^2$. You know everything but $w^2$.",
    answer="recover_update",
    stub="""def recover_update(average, mine, my_examples, other_examples):
    \"\"\"The other client's weights; `average` and `mine` are dictionaries of tensors with the same names.\"\"\"
    ...  # your code""",
    solution="""def recover_update(average, mine, my_examples, other_examples):
    \"\"\"The other client's weights; `average` and `mine` are dictionaries of tensors with the same names.\"\"\"
    total = my_examples + other_examples
    return {name: (total * average[name] - my_examples * mine[name]) / other_examples for name in average}""",
    explanation="""With two clients an average hides nothing: each learns exactly what the other sent. With more
clients, each learns the average of the others. That holds even if the server never shows a single update to anybody
(*secure aggregation*, notebook 06).""",
    wrong={
        """def recover_update(average, mine, my_examples, other_examples):
    return {name: 2 * average[name] - mine[name] for name in average}""": "weighted",
        """def recover_update(average, mine, my_examples, other_examples):
    share = my_examples / (my_examples + other_examples)
    return {name: average[name] - share * mine[name] for name in average}""": "still multiplied",
        """def recover_update(average, mine, my_examples, other_examples):
    return average['weight'] - mine['weight']""": "dictionary",
    },
    check=check_recover,
)

EXERCISES = (SHARE, DEAL, RECOVER)
