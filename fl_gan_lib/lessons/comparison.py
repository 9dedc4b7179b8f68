"""The exercises of notebook 04: when a digit can be recognised, and a search for copies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number
from fl_gan_lib.records import AttackRecord


def _record(probe: list[float], recognition: list[float], real: float) -> AttackRecord:
    rounds = np.array([1, 2, 5, 8, 13])
    metrics = pd.DataFrame({"round": rounds, "probe": probe, "recognition": recognition})
    metrics = metrics.assign(seconds=rounds * 1.0, accuracy=0.9, diversity=0.8)
    image = np.zeros((1, 28, 28), np.uint8)
    config = {"kind": "attack", "target": 3, "dataset": "mnist-5k", "rounds": 13, "seed": 0}
    config["probe_anchors"] = {"noise": 0.01, "another class": 0.1, "real images": real}
    return AttackRecord(np.zeros((5, 1, 28, 28), np.uint8), image, image, rounds, metrics, config)


def check_first(first_round: Callable[[AttackRecord, float], int]) -> None:
    rounds = [1, 2, 5, 8, 13]
    cases = (
        ([0.0, 0.1, 0.5, 0.7, 0.9], [0.0, 0.9, 1.0, 1.0, 1.0], 0.8, 0.8),
        ([0.0, 0.0, 0.1, 0.1, 0.2], [1.0, 1.0, 1.0, 1.0, 1.0], 0.9, 0.8),
        ([0.0, 0.3, 0.85, 0.6, 0.9], [0.2, 0.9, 1.0, 1.0, 1.0], 0.9, 0.9),
    )
    for probe, recognition, real, share in cases:
        reached = [place for place, value in enumerate(probe) if value >= share * real]
        right = rounds[reached[0]] if reached else 0
        case = f"For the rounds {rounds}, the probes {probe}, real images at {real} and a share of {share},"
        found = as_number(first_round(_record(probe, recognition, real), share), case)
        if found == right:
            continue
        by_recognition = [number for number, value in zip(rounds, recognition, strict=True) if value >= share]
        plain = [number for number, value in zip(rounds, probe, strict=True) if value >= share]
        if reached and found == reached[0]:
            raise Mistake(f"{case} you return {found:g}, the place in the table. Return the number of the round.")
        if plain and found == plain[0] and plain[0] != right:
            raise Mistake(f"{case} you return {found:g}. Compare with the share *of the real images' value*.")
        if by_recognition and found == by_recognition[0]:
            raise Mistake(f"{case} you return {found:g}. Recognition is there much too early. Use the probe.")
        raise Mistake(f"{case} you return {found:g}, and it should be {right}. (0 stands for never.)")


FIRST = Exercise(
    name="04.1",
    title="When does the probe rise?",
    level="easy",
    minutes=10,
    task="""Write a function that returns the first recorded round in which the probe reaches a given share of its value
for real images, and 0 if it never does. `record.metrics` is a table with the columns `round` and `probe`.
`record.anchors["real images"]` is the value for real images.

Then call it for all ten digits, with a share of 0.8. Which digits come first, and which last?""",
    hint="`record.metrics[record.metrics['probe'] >= ...]` has the rows that reach it. It may be empty. "
    "`rows['round'].iloc[0]` is the round of the first of them. Perhaps no round reaches it: try `len(rows)` first.",
    answer="first_round",
    stub="""def first_round(record, share):
    \"\"\"The first recorded round in which the probe has `share` of its value for real images; 0 if none.\"\"\"
    ...  # your code""",
    solution="""def first_round(record, share):
    \"\"\"The first recorded round in which the probe has `share` of its value for real images; 0 if none.\"\"\"
    enough = record.metrics["probe"] >= share * record.anchors["real images"]
    return int(record.metrics.loc[enough, "round"].iloc[0]) if enough.any() else 0""",
    explanation="""`{digit: first_round(record, 0.8) for digit, record in records.items()}` answers the question. Only
some rounds are recorded, so the answer is coarse: 13 stands for one of the rounds 11 to 13.""",
    wrong={
        """def first_round(record, share):
    reached = [p >= share * record.anchors["real images"] for p in record.metrics["probe"]]
    return reached.index(True) if any(reached) else 0""": "the number of the round",
        """def first_round(record, share):
    rows = record.metrics[record.metrics["probe"] >= share]
    return int(rows["round"].iloc[0]) if len(rows) else 0""": "of the real images' value",
        """def first_round(record, share):
    rows = record.metrics[record.metrics["recognition"] >= share]
    return int(rows["round"].iloc[0]) if len(rows) else 0""": "Use the probe",
    },
    check=check_first,
)


def check_nearest(nearest_pair: Callable[[np.ndarray, np.ndarray], tuple[int, int]]) -> None:
    rng = np.random.default_rng(5)
    private, fakes = (255 * rng.integers(0, 2, (count, 28, 28)).astype(np.uint8) for count in (6, 9))
    fakes[4] = np.clip(private[2].astype(int) + rng.integers(-30, 31, (28, 28)), 0, 255)
    fakes[7] = 0  # far from all ink, but in uint8, 0 - 255 is 1
    fakes[8] = 255 - private[0]  # farthest apart
    answer = nearest_pair(fakes, private)
    try:
        found = tuple(int(place) for place in answer)
    except (TypeError, ValueError):
        found = ()
    if len(found) != 2:
        raise Mistake("Return two whole numbers: the place of the fake, and the place of the private image.")
    if found == (4, 2):
        return
    if found == (2, 4):
        raise Mistake("You return (2, 4): the right pair the other way round. The fake comes first.")
    apart = ((fakes[:, None].astype(float) - private[None]) ** 2).sum((2, 3))
    wrapped = fakes[:, None] - private[None]
    for squares in (wrapped.astype(float) ** 2, wrapped**2):
        if found == np.unravel_index(squares.sum((2, 3)).argmin(), apart.shape):
            raise Mistake(
                f"You return {found}. Small integers overflow: in uint8, 0 - 255 is 1. Turn the images into floats "
                "before you subtract."
            )
    if found == np.unravel_index(apart.argmax(), apart.shape):
        raise Mistake(f"You return {found}, the pair that is *farthest* apart. (Or did small integers overflow?)")
    raise Mistake(f"You return {found}, and fake 4 is nearly a copy of image 2. Sum the squares of all differences.")


NEAREST = Exercise(
    name="04.2",
    title="A search for copies",
    level="medium",
    minutes=15,
    task="""Write a function that finds the fake and the private image that are most alike: the pair with the smallest
sum of squared differences of grey values. It gets fakes of shape (n, 28, 28) and private images of shape (m, 28, 28),
both uint8. It returns the place of the fake and the place of the private image.

Then try it on `records[3].final_samples` and `records[3].private_samples`, and look at the pair with `plot_images`
(`from fl_gan_lib.figures import plot_images`).""",
    hint="`fakes[:, None] - private[None]` has all differences, of shape (n, m, 28, 28). But mind the type: what is "
    "`np.uint8(3) - np.uint8(5)`? `np.unravel_index(d.argmin(), d.shape)` finds the place of the smallest entry.",
    answer="nearest_pair",
    stub="""def nearest_pair(fakes, private):
    \"\"\"The places of the fake and of the private image that are most alike.\"\"\"
    ...  # your code""",
    solution="""def nearest_pair(fakes, private):
    \"\"\"The places of the fake and of the private image that are most alike.\"\"\"
    differences = fakes[:, None].astype(float) - private[None]
    distances = (differences**2).sum((2, 3))
    return np.unravel_index(distances.argmin(), distances.shape)""",
    explanation="""The nearest pair of digit 3 looks alike, as two ordinary 3s do, and is no copy. A record holds ten of
the victim's images. Notebook 05 searches all of them.""",
    wrong={
        """def nearest_pair(fakes, private):
    distances = ((fakes[:, None] - private[None]).astype(float) ** 2).sum((2, 3))
    return np.unravel_index(distances.argmin(), distances.shape)""": "overflow",
        """def nearest_pair(fakes, private):
    distances = ((fakes[:, None].astype(float) - private[None]) ** 2).sum((2, 3))
    return np.unravel_index(distances.argmax(), distances.shape)""": "farthest",
        """def nearest_pair(fakes, private):
    distances = ((private[:, None].astype(float) - fakes[None]) ** 2).sum((2, 3))
    return np.unravel_index(distances.argmin(), distances.shape)""": "the other way round",
        """def nearest_pair(fakes, private):
    return ((fakes[:, None].astype(float) - private[None]) ** 2).sum((2, 3)).min()""": "two whole numbers",
    },
    check=check_nearest,
)

EXERCISES = (FIRST, NEAREST)
