"""The exercises of notebook 03: the generator's loss, the score behind the numbers, and an alarm for the victim."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_loss(generator_loss: Callable[[Tensor, int], Tensor]) -> None:
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(32, 11, generator=random).requires_grad_()
    value = generator_loss(logits, 3)
    found = as_number(value, "For 32 fakes")
    log_p = logits.detach().log_softmax(1)[:, 3]
    named = {
        "the mean over another dimension: softmax must go over the outputs, `log_softmax(1)`.": (
            -logits.detach().log_softmax(0)[:, 3].mean()
        ),
        "the *sum* over the fakes. Take the mean, so that the loss does not grow with their number.": -log_p.sum(),
        "a number that falls when the model is *less* convinced. A loss is minimised: mind the sign.": log_p.mean(),
        "the mean probability, with a minus. Its gradient vanishes where the model is sure that a fake is none. Take "
        "the logarithm first.": -log_p.exp().mean(),
        "the loss of the minimax formula, log(1 - p). Its gradient is small just where the generator has everything to "
        "learn. Use the non-saturating loss.": (1 - log_p.exp()).log().mean(),
        "the mean of the *logits*. Turn them into log-probabilities first: `log_softmax(1)`.": -logits[:, 3].mean(),
    }
    if abs(found - -log_p.mean()) < 1e-4:
        other = as_number(generator_loss(logits, 5), "For the target 5")
        if not abs(other + logits.detach().log_softmax(1)[:, 5].mean()) < 1e-4:
            raise Mistake("You return the right number for the target 3, and not for the target 5. Use `target`.")
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise Mistake("The number is right, and it is cut off from the logits. Return a tensor, without `.item()`.")
        return
    for words, wrong in named.items():
        if abs(found - wrong) < 1e-4:
            raise Mistake(f"You return {words}")
    raise Mistake(
        f"For 32 random fakes you return {found:.3f}, and it should be {-log_p.mean():.3f}. It is minus the mean, over "
        "the fakes, of the log-probability of the target."
    )


LOSS = Exercise(
    name="03.1",
    title="The generator's loss",
    level="easy",
    minutes=10,
    task="""Write the loss of section 3 without `F.cross_entropy`. It gets the received model's logits for a mini-batch
of fakes, of shape (fakes, outputs), and the number of the target. It returns one number, as a tensor through which
`backward()` can go.""",
    hint="`logits.log_softmax(1)` gives log-probabilities, a row for each fake. Which column do you need? And is a "
    "large log-probability good or bad for a loss?",
    answer="generator_loss",
    stub="""def generator_loss(logits, target):
    \"\"\"The loss of the generator for one mini-batch of fakes.\"\"\"
    ...  # your code""",
    solution="""def generator_loss(logits, target):
    \"\"\"The loss of the generator for one mini-batch of fakes.\"\"\"
    return -logits.log_softmax(1)[:, target].mean()""",
    explanation="""This is `F.cross_entropy` with the target as the label of every fake. It is near 0 where the model is
sure that every fake is of the target, and it is large where the model is sure of the opposite.""",
    wrong={
        """def generator_loss(logits, target):
    return -logits.log_softmax(1)[:, target].sum()""": "the *sum*",
        """def generator_loss(logits, target):
    return logits.log_softmax(1)[:, target].mean()""": "mind the sign",
        """def generator_loss(logits, target):
    return (1 - logits.softmax(1)[:, target]).log().mean()""": "non-saturating",
        """def generator_loss(logits, target):
    return -logits.softmax(1)[:, target].mean()""": "the logarithm first",
        """def generator_loss(logits, target):
    return -logits.log_softmax(1)[:, target].mean().item()""": "without `.item()`",
    },
    check=check_loss,
)


def check_f1(f1: Callable[[Sequence[int], Sequence[int], int], float]) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 10, 200)
    predicted = np.where(rng.random(200) < 0.7, labels, rng.integers(2, 5, 200))
    is_target, said = labels == 3, predicted == 3
    found = as_number(f1(labels.tolist(), predicted.tolist(), 3), "For 200 images")
    scores = {
        "the accuracy on all classes. Ask only which images are classified as the target.": accuracy_score(
            labels, predicted
        ),
        "the share of images for which the answer *target or not* is right. A classifier that never predicts it "
        "gets 0.9 there. Leave the true negatives out.": accuracy_score(is_target, said),
        "the recall. It forgives all false alarms: a classifier that always predicts the target gets 1.": recall_score(
            is_target, said
        ),
        "the precision. It forgives everything that was missed.": precision_score(is_target, said),
        "the plain mean of precision and recall. Take the *harmonic* mean.": (
            recall_score(is_target, said) + precision_score(is_target, said)
        )
        / 2,
    }
    right = f1_score(is_target, said)
    if not abs(found - right) <= 1e-4:
        for words, wrong in scores.items():
            if abs(found - wrong) < 1e-4:
                raise Mistake(f"You return {words}")
        raise Mistake(f"For 200 images you return {found:.3f}, and it should be {right:.3f}.")
    of_two = as_number(f1(labels.tolist(), predicted.tolist(), 2), "For the target 2")
    if not abs(of_two - f1_score(labels == 2, predicted == 2)) <= 1e-4:
        raise Mistake("You return the right number for the target 3, and not for the target 2. Use `target`.")
    for case, labels_ in (
        ("Where no image is classified as the target,", [3, 1, 2]),
        ("Where all counts are 0,", [0, 1, 2]),
    ):
        nobody = as_number(f1(labels_, [1, 1, 2], 3), case)
        if nobody != 0:
            raise Mistake(f"{case} you return {nobody:g}. It should be 0.")


F1 = Exercise(
    name="03.2",
    title="The score behind the numbers",
    level="medium",
    minutes=15,
    task="""The probe and TSTR are F1 scores. Write the F1 score of one class. It is the harmonic mean of *precision*
(of the images that are classified as the target, the share that really are of it) and *recall* (of the target's images,
the share that are classified as the target). With the counts of true positives $TP$, false positives $FP$ and false
negatives $FN$ it is
$2\\,TP / (2\\,TP + FP + FN)$. Where all three counts are 0, return 0.

Then answer: a classifier gets all other digits right, and never predicts the target. One test image in ten is of the
target. What is its accuracy, and what is its F1 score on the target?""",
    hint="Go through the pairs of `zip(labels, predicted)`. True positives have both equal to the target. A false "
    "positive is classified as the target and is not of it.",
    answer="f1",
    stub="""def f1(labels, predicted, target):
    \"\"\"The F1 score of the class `target`; `labels` and `predicted` are lists of class numbers.\"\"\"
    ...  # your code""",
    solution="""def f1(labels, predicted, target):
    \"\"\"The F1 score of the class `target`; `labels` and `predicted` are lists of class numbers.\"\"\"
    pairs = list(zip(labels, predicted, strict=True))
    true_positives = sum(label == target and said == target for label, said in pairs)
    wrong = sum((label == target) != (said == target) for label, said in pairs)
    return 2 * true_positives / (2 * true_positives + wrong) if true_positives else 0""",
    explanation="""Its accuracy is 0.9, and its F1 score is 0. So it is F1 that shows that a classifier has learned
nothing of the target, as from noise.""",
    wrong={
        """def f1(labels, predicted, target):
    return sum(label == said for label, said in zip(labels, predicted)) / len(labels)""": "accuracy on all classes",
        """def f1(labels, predicted, target):
    return sum((a == target) == (b == target) for a, b in zip(labels, predicted)) / len(labels)""": "true negatives",
        """def f1(labels, predicted, target):
    hits = sum(label == target and said == target for label, said in zip(labels, predicted))
    return hits / labels.count(target)""": "false alarms",
        """def f1(labels, predicted, target):
    hits = sum(label == target and said == target for label, said in zip(labels, predicted))
    return hits / predicted.count(target)""": "precision",
    },
    check=check_f1,
)


def check_alarm(alarm: Callable[[Sequence[float], float, int], int]) -> None:
    cases = (
        ([0.2, 0.9, 0.3, 0.4, 0.9, 0.4, 0.3, 0.2], 0.5, 3, 8),
        ([0.9, 0.4, 0.3, 0.9], 0.5, 2, 3),
        ([0.9, 0.4, 0.9, 0.3, 0.9], 0.5, 2, 0),
        ([0.9, 0.95, 0.9], 0.5, 1, 0),
        ([0.9, 0.5, 0.4], 0.5, 1, 3),
    )
    for accuracies, threshold, patience, right in cases:
        case = f"For the accuracies {accuracies}, threshold {threshold} and patience {patience},"
        found = as_number(alarm(accuracies, threshold, patience), case)
        if found == right:
            continue
        low = [place for place, value in enumerate(accuracies) if value < threshold]
        if threshold in accuracies and found == accuracies.index(threshold) + 1:
            raise Mistake(f"{case} you return {found:g}. An accuracy of exactly {threshold} is not below {threshold}.")
        if right and found == right - 1:
            raise Mistake(f"{case} you return {found:g}. The first round is round 1, and not 0.")
        if right and found == right - patience + 1:
            raise Mistake(
                f"{case} you return {found:g}, the round in which the low ones begin. The victim knows it only in the "
                f"last of the {patience}."
            )
        if len(low) >= patience and found == low[patience - 1] + 1:
            raise Mistake(
                f"{case} you return {found:g}. The low rounds must come one after another: begin to count again after "
                "each round that is not low."
            )
        raise Mistake(f"{case} you return {found:g}, and it should be {right}. (0 stands for no alarm.)")


ALARM = Exercise(
    name="03.3",
    title="An alarm for the victim",
    level="medium",
    minutes=20,
    task="""The victim can test each global model on its own images of each class. Write its alarm. It gets the accuracy
on one class, a list with one number for each round, and returns the first round in which that accuracy has been below
`threshold` for `patience` rounds in a row. It returns 0 if that never happens. The first round is round 1.

Then sound it on the curves of section 7, with a threshold of 0.5: the accuracy on 3s in every round is in
`under_attack` and in `honest`. Try a patience of 1, 3 and 5. Which of them tells the two federations apart?""",
    hint="Go through the rounds with `enumerate(accuracies, start=1)`. Count low rounds, and set the count to 0 after "
    "a round that is not low.",
    answer="alarm",
    stub="""def alarm(accuracies, threshold, patience):
    \"\"\"The first round that ends `patience` rounds in a row below `threshold`; 0 if there is none.\"\"\"
    ...  # your code""",
    solution="""def alarm(accuracies, threshold, patience):
    \"\"\"The first round that ends `patience` rounds in a row below `threshold`; 0 if there is none.\"\"\"
    low = 0
    for round, accuracy in enumerate(accuracies, start=1):
        low = low + 1 if accuracy < threshold else 0
        if low == patience:
            return round
    return 0""",
    explanation="""With a patience of 1 both alarms ring in round 1: in the first rounds every federation classifies
badly. With 3 the alarm rings in round 38 under attack, and never in the honest federation. With 5 it never rings: under
attack the accuracy swings, and does not stay low. (Seed 0.) A patience of 1 that begins after round 20 would be better
still. How good such alarms are, and what an attacker does that knows of them, is a subject of notebook 06.""",
    wrong={
        """def alarm(accuracies, threshold, patience):
    low = [round for round, value in enumerate(accuracies, start=1) if value < threshold]
    return low[patience - 1] if len(low) >= patience else 0""": "one after another",
        """def alarm(accuracies, threshold, patience):
    low = 0
    for round, accuracy in enumerate(accuracies):
        low = low + 1 if accuracy < threshold else 0
        if low == patience:
            return round
    return 0""": "The first round is round 1",
        """def alarm(accuracies, threshold, patience):
    low = 0
    for round, accuracy in enumerate(accuracies, start=1):
        low = low + 1 if accuracy < threshold else 0
        if low == patience:
            return round - patience + 1
    return 0""": "begin",
    },
    check=check_alarm,
)

EXERCISES = (LOSS, F1, ALARM)
