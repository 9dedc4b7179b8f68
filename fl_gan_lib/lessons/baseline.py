"""The exercises of notebook 02: a fair comparison, client drift, and what a model's biases give away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from fl_gan_lib.federation import Update
from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_steps(central_steps: Callable[[int, int, int, int], float]) -> None:
    for clients, images, steps, batch in ((5, 800, 8, 32), (3, 100, 4, 10)):
        case = f"For {clients} clients of {images} images, {steps} local steps and mini-batches of {batch},"
        found = as_number(central_steps(clients, images, steps, batch), case)
        if abs(found - clients * steps) < 1e-6:
            continue
        if abs(found - steps) < 1e-6:
            raise Mistake(f"{case} you give the central model {steps} steps. That is the *equal steps* of section 1.")
        if abs(found - steps / clients) < 1e-6:
            raise Mistake(
                f"{case} you have divided by the number of clients. The central model has *more* images to go through."
            )
        if abs(found - steps * batch / images) < 1e-6:
            raise Mistake(
                f"{case} you return the epochs of a round. How many steps is that, with all images in one place?"
            )
        raise Mistake(
            f"{case} you return {found:g}. In a round, each image must be used as often as in the federation."
        )


STEPS = Exercise(
    name="02.1",
    title="Equal epochs",
    level="easy",
    minutes=10,
    task="""An *epoch* is one pass through all images. How many steps a round must the centralised model take, so that
each image is used as often as in the federation? Write the function, with mini-batches of the same size on both sides.
(You may find that you do not need every argument.)
Then check the number 40 of section 1 with it.""",
    hint="In a round a client uses `local_steps * batch_size` of its `images_per_client` images. That is a fraction of "
    "an epoch. The central model holds `num_clients * images_per_client` images. Set the two fractions equal.",
    answer="central_steps",
    stub="""def central_steps(num_clients, images_per_client, local_steps, batch_size):
    \"\"\"Steps a round of the centralised model, for as many epochs as in the federation.\"\"\"
    ...  # your code""",
    solution="""def central_steps(num_clients, images_per_client, local_steps, batch_size):
    \"\"\"Steps a round of the centralised model, for as many epochs as in the federation.\"\"\"
    epochs = local_steps * batch_size / images_per_client
    return epochs * num_clients * images_per_client / batch_size""",
    explanation="""All but two of the arguments cancel. The answer is `num_clients * local_steps`, here 5 · 8 = 40. The
federation takes its 40 steps side by side, eight on each client. The centralised model takes them one after
another, and each starts from where the last one ended. That is why it learns more in a round.""",
    wrong={
        """def central_steps(num_clients, images_per_client, local_steps, batch_size):
    return local_steps""": "equal steps",
        """def central_steps(num_clients, images_per_client, local_steps, batch_size):
    return local_steps / num_clients""": "divided by the number of clients",
        """def central_steps(num_clients, images_per_client, local_steps, batch_size):
    return local_steps * batch_size / images_per_client""": "epochs of a round",
    },
    check=check_steps,
)


def check_agreement(agreement: Callable[[dict[str, Tensor], Sequence[Update]], float]) -> None:
    random = torch.Generator().manual_seed(1)

    def tensors(scale: float) -> dict[str, Tensor]:
        return {"weight": scale * torch.randn(4, 3, generator=random), "bias": scale * torch.randn(4, generator=random)}

    start = tensors(10.0)
    updates = [Update({name: start[name] + change[name] for name in start}, 1) for change in map(tensors, (1, 2, 3, 4))]
    found = as_number(agreement(start, updates), "For four clients")
    states = [_flat(update.state) for update in updates]
    changes = [state - _flat(start) for state in states]
    if abs(found - _mean_cosine(changes)) < 1e-4:
        return
    if abs(found - _mean_cosine(states)) < 1e-4:
        raise Mistake(
            "You compare the *weights* of the clients. All of them started from the same ones: take the changes."
        )
    every = torch.stack([F.cosine_similarity(a, b, dim=0) for a in changes for b in changes]).mean()
    if abs(found - every) < 1e-4:
        raise Mistake("You compare each client with itself, too, which always gives 1. Leave those pairs out.")
    products = torch.stack([a @ b for a, b in combinations(changes, 2)]).mean()
    if abs(found - products) < 1e-4:
        raise Mistake("Your number grows with the length of the changes. Divide by both lengths: that is the cosine.")
    raise Mistake(
        f"For four random changes you return {found:.3f}, and it should be {_mean_cosine(changes):.3f}. Take the "
        "cosine between whole changes, one long vector for each client, for *every* pair, and the mean over the pairs."
    )


def _flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in state.values()])


def _mean_cosine(vectors: Sequence[Tensor]) -> float:
    pairs = combinations(vectors, 2)
    return torch.stack([F.cosine_similarity(one, other, dim=0) for one, other in pairs]).mean().item()


AGREEMENT = Exercise(
    name="02.2",
    title="Measure client drift",
    level="hard",
    minutes=30,
    task="""*Client drift* means that the clients pull the model in different directions. Measure it: write a function
that returns the mean cosine similarity between the *changes* of two clients, over all pairs. A change is what a client
sent minus what it received, all tensors as one long vector.

Then compare the splits `parts` and `by_label`: make one `model = Classifier()`, let
`Client(train.subset(part)).fit(model, round=1)` train it for each part, and call your function with
`model.state_dict()` and these updates.""",
    hint="`torch.cat([tensor.flatten() for tensor in state.values()])` makes one vector. "
    "`F.cosine_similarity(one, other, dim=0)` compares two. `itertools.combinations(changes, 2)` gives all pairs.",
    answer="agreement",
    stub="""def agreement(received, updates):
    \"\"\"Mean cosine similarity of the clients' changes; `received` is the state that all of them started from.\"\"\"
    ...  # your code""",
    solution="""from itertools import combinations


def agreement(received, updates):
    \"\"\"Mean cosine similarity of the clients' changes; `received` is the state that all of them started from.\"\"\"
    start = torch.cat([tensor.flatten() for tensor in received.values()])
    changes = [torch.cat([tensor.flatten() for tensor in update.state.values()]) - start for update in updates]
    pairs = [F.cosine_similarity(one, other, dim=0) for one, other in combinations(changes, 2)]
    return torch.stack(pairs).mean().item()""",
    explanation="""In the IID split the five changes point in similar directions: their mean cosine similarity is
0.66 (seeds 0 to 4: 0.64 to 0.68). In the split by label it is -0.04 (-0.05 to -0.04). The average of vectors that point
in unrelated directions is short, so a round moves the model less. That is client drift.""",
    wrong={
        """from itertools import combinations


def agreement(received, updates):
    states = [torch.cat([tensor.flatten() for tensor in update.state.values()]) for update in updates]
    pairs = [F.cosine_similarity(one, other, dim=0) for one, other in combinations(states, 2)]
    return torch.stack(pairs).mean().item()""": "take the changes",
        """from itertools import combinations


def agreement(received, updates):
    start = torch.cat([tensor.flatten() for tensor in received.values()])
    changes = [torch.cat([t.flatten() for t in update.state.values()]) - start for update in updates]
    return torch.stack([F.cosine_similarity(a, b, dim=0) for a in changes for b in changes]).mean()""": "with itself",
        """from itertools import combinations


def agreement(received, updates):
    start = torch.cat([tensor.flatten() for tensor in received.values()])
    changes = [torch.cat([t.flatten() for t in update.state.values()]) - start for update in updates]
    return torch.stack([a @ b for a, b in combinations(changes, 2)]).mean()""": "grows with the length",
    },
    check=check_agreement,
)


def check_unused(unused: Callable[[Tensor, int], Sequence[int]]) -> None:
    random = torch.Generator().manual_seed(2)
    for missing, rises in (([3], []), ([], [5]), ([0, 9], [4])):
        moved = torch.cat([torch.zeros(1, 11), (0.001 * torch.randn(30, 11, generator=random)).cumsum(0)])
        progress = torch.linspace(0, 1, 31)
        moved[:, [*missing, 10]] -= 0.3 * progress[:, None]
        moved[:, rises] += 0.3 * progress[:, None]
        moved[:, 7] -= 1.2 * progress * (1 - progress)  # falls, and comes back
        found = torch.as_tensor(list(unused(moved, 10)))
        case = f"Where nobody holds {missing}," if missing else "Where somebody holds each digit,"
        if found.dtype == torch.bool:
            raise Mistake(f"{case} you return True and False. Return the digits themselves.")
        found = sorted(found.flatten().int().tolist())
        if found == missing:
            continue
        if 10 in found:
            raise Mistake(f"{case} you list output 10, the spare one. The question is which *digits* nobody holds.")
        if set(rises) & set(found):
            raise Mistake(f"{case} you list the output that *rises*. Unused outputs fall: keep the sign.")
        if set(missing) - set(found):
            raise Mistake(f"{case} you find {found}. Compare each output's last value with half of the spare output's.")
        if 7 in found:
            raise Mistake(f"{case} you list 7, whose bias falls and comes back. Look at the *last* round only.")
        raise Mistake(f"{case} you find {found}. Ask that a bias has fallen at least half as far as the spare one.")


UNUSED = Exercise(
    name="02.3",
    title="Which digits does nobody hold?",
    level="medium",
    minutes=15,
    task="""Turn section 4 into a detector. It gets a tensor like `moved`, of shape (rounds + 1, outputs): how far
the bias of each output has moved since the start. It returns the list of digits that nobody appears to hold: those
whose bias has, after the last round, fallen at least half as far as that of the spare output.

Then try it on both federations of section 4, `moved` and `control`.""",
    hint="`moved[-1]` is the last round. The spare output has fallen to `moved[-1, spare]`, a negative number. Which "
    "of the other values are at most half of it?",
    answer="unused_digits",
    stub="""def unused_digits(moved, spare):
    \"\"\"The digits that nobody appears to hold, as a list of whole numbers without `spare`.\"\"\"
    ...  # your code""",
    solution="""def unused_digits(moved, spare):
    \"\"\"The digits that nobody appears to hold, as a list of whole numbers without `spare`.\"\"\"
    last = moved[-1]
    return [output for output in range(len(last)) if output != spare and last[output] <= last[spare] / 2]""",
    explanation="""`unused_digits(moved, 10)` is `[]`, and `unused_digits(control, 10)` is `[3]`. That holds for
seeds 0 to 4. It is a rule of thumb. It needs a spare output to compare with, and a class that *nobody* holds.""",
    wrong={
        """def unused_digits(moved, spare):
    last = moved[-1]
    return [output for output in range(len(last)) if last[output] <= last[spare] / 2]""": "the spare one",
        """def unused_digits(moved, spare):
    size = moved[-1].abs()
    return [output for output in range(len(size)) if output != spare and size[output] >= size[spare] / 2]""": "rises",
        """def unused_digits(moved, spare):
    mean = moved.mean(0)
    return [digit for digit in range(len(mean)) if digit != spare and mean[digit] <= mean[spare] / 2]""": "comes back",
        """def unused_digits(moved, spare):
    return (moved[-1] <= moved[-1, spare] / 2).tolist()""": "True and False",
    },
    check=check_unused,
)

EXERCISES = (STEPS, AGREEMENT, UNUSED)
