"""The exercises of notebook 05: what partial sharing keeps, and a fair search for copies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fl_gan_lib.lessons.exercise import Exercise, Mistake, as_number


def check_largest(keep_largest: Callable[[list[Tensor], float], list[Tensor]]) -> None:
    random = torch.Generator().manual_seed(6)
    change = [torch.randn(4, 5, generator=random), 10 * torch.randn(20, generator=random)]
    kept = keep_largest(change, 0.25)
    try:
        kept = [torch.as_tensor(tensor) for tensor in kept]
    except (TypeError, ValueError, RuntimeError):
        kept = []
    if [tensor.shape for tensor in kept] != [tensor.shape for tensor in change]:
        raise Mistake("Return a list with one tensor for each of the change's, of the same shape.")
    flat, original = torch.cat([t.flatten() for t in kept]), torch.cat([t.flatten() for t in change])
    largest = original.abs().argsort(descending=True)[:10]
    right = torch.zeros_like(original).index_copy(0, largest, original[largest])
    if torch.equal(flat, right):
        return
    if torch.equal(flat, right.abs()):
        raise Mistake("You return the absolute values. The client sends the changes themselves, with their signs.")
    if torch.equal(flat, original.where(right == 0, torch.zeros(()))):
        raise Mistake("You keep the small entries and drop the large ones.")
    upward = original.argsort(descending=True)[:10]
    if torch.equal(flat, torch.zeros_like(original).index_copy(0, upward, original[upward])):
        raise Mistake("You keep the entries that *rise* most. A large fall matters as much: take absolute values.")
    if [int((tensor != 0).sum()) for tensor in kept] == [5, 5]:
        raise Mistake(
            "You keep a quarter of *each* tensor. The entries of all tensors compete with each other: here nearly all "
            "of the largest ones are in the second."
        )
    raise Mistake(
        f"Of 40 entries the 10 largest are to be kept, and you keep {int((flat != 0).sum())}. All others become 0."
    )


LARGEST = Exercise(
    name="05.1",
    title="What partial sharing keeps",
    level="medium",
    minutes=20,
    task="""Write $\\operatorname{top}_\\theta$ of section 3. It gets a change, a list with one tensor for each
parameter, and a share. It returns a list of tensors of the same shapes, in which only that share of all entries is
left: those that are largest in absolute value. All others are 0. (In the test, the share of the entries is a whole
number.)""",
    hint="Put all entries into one vector: `torch.cat([tensor.flatten() for tensor in change])`. The threshold is the "
    "k-th largest of their absolute values, `flat.abs().topk(k).values[-1]`. Then go through the tensors.",
    answer="keep_largest",
    stub="""def keep_largest(change, share):
    \"\"\"The change with all but its largest entries set to 0.\"\"\"
    ...  # your code""",
    solution="""def keep_largest(change, share):
    \"\"\"The change with all but its largest entries set to 0.\"\"\"
    flat = torch.cat([tensor.flatten() for tensor in change])
    threshold = flat.abs().topk(round(share * len(flat))).values[-1]
    return [torch.where(tensor.abs() >= threshold, tensor, 0) for tensor in change]""",
    explanation="""The library's `KeepLargest` does this. A tenth of 184,715 entries are 18,471. Whoever sends them must
also say which ones they are.""",
    wrong={
        """def keep_largest(change, share):
    flat = torch.cat([tensor.flatten() for tensor in change])
    threshold = flat.topk(round(share * len(flat))).values[-1]
    return [torch.where(tensor >= threshold, tensor, 0) for tensor in change]""": "*rise* most",
        """def keep_largest(change, share):
    thresholds = [t.abs().flatten().topk(round(share * t.numel())).values[-1] for t in change]
    return [torch.where(t.abs() >= least, t, 0) for t, least in zip(change, thresholds)]""": "of *each* tensor",
        """def keep_largest(change, share):
    flat = torch.cat([tensor.flatten() for tensor in change])
    threshold = flat.abs().topk(round(share * len(flat))).values[-1]
    return [torch.where(tensor.abs() >= threshold, tensor.abs(), 0) for tensor in change]""": "with their signs",
    },
    check=check_largest,
)


def check_copies(copy_ratio: Callable[[Tensor, Tensor, Tensor], float]) -> None:
    random = torch.Generator().manual_seed(7)
    fakes, members, held_out = (torch.randn(count, 6, generator=random) for count in (30, 40, 10))
    found = as_number(copy_ratio(fakes, members, held_out), "For 30 fakes, 40 members and 10 images held out")
    nearest = torch.cdist(fakes, held_out).min(1).values.mean()
    shares = torch.stack([torch.cdist(fakes, share).min(1).values.mean() for share in members.split(10)])
    right = (shares.mean() / nearest).item()
    if abs(found - right) < 1e-4:
        return
    if abs(found - 1 / right) < 1e-4:
        raise Mistake("You return the ratio the other way round. Copies should make it small.")
    if abs(found - (torch.cdist(fakes, members).min(1).values.mean() / nearest).item()) < 1e-4:
        raise Mistake(
            "You compare the nearest of 40 with the nearest of 10. The nearest of many is nearer, even if nothing is "
            "copied. Take the members in shares of as many as are held out, and the mean over the shares."
        )
    if abs(found - (torch.cdist(fakes, members[:10]).min(1).values.mean() / nearest).item()) < 1e-4:
        raise Mistake("You use the first share of the members only. A copy of any other one would be missed.")
    if abs(found - (torch.cdist(fakes, members).mean() / torch.cdist(fakes, held_out).mean()).item()) < 1e-4:
        raise Mistake("You compare mean distances to *all* images. A copy is near to one image: take the nearest.")
    raise Mistake(f"For random pictures you return {found:.3f}, and it should be {right:.3f}.")


COPIES = Exercise(
    name="05.2",
    title="A fair search for copies",
    level="hard",
    minutes=25,
    task="""Write the copy ratio of section 9. It gets the fakes, the victim's images (*members*) and the images that
nobody trained on, as tensors with one picture a row. The number of members is a multiple of the number held out.

Then find out what happens without the shares. For `fakes`, `private` and `unseen` of section 9, compare your number
with `torch.cdist(fakes, private).min(1).values.mean() / torch.cdist(fakes, unseen).min(1).values.mean()`.""",
    hint="`members.split(len(held_out))` gives shares of that size. `torch.cdist(fakes, share).min(1).values` has the "
    "distance of each fake to its nearest image in a share.",
    answer="copy_ratio",
    stub="""def copy_ratio(fakes, members, held_out):
    \"\"\"Mean distance to the nearest member, over that to the nearest of as many images that nobody trained on.\"\"\"
    ...  # your code""",
    solution="""def copy_ratio(fakes, members, held_out):
    \"\"\"Mean distance to the nearest member, over that to the nearest of as many images that nobody trained on.\"\"\"
    shares = members.split(len(held_out))
    near = torch.stack([torch.cdist(fakes, share).min(1).values.mean() for share in shares]).mean()
    return (near / torch.cdist(fakes, held_out).min(1).values.mean()).item()""",
    explanation="""Without the shares the ratio is 0.91: the nearest of 400 images is nearer than the nearest of
100. Somebody who forgets this finds copies everywhere. (The library's `metrics.copy_ratio` does the same as yours.)""",
    wrong={
        """def copy_ratio(fakes, members, held_out):
    near, far = (torch.cdist(fakes, images).min(1).values.mean() for images in (members, held_out))
    return (near / far).item()""": "nearest of many",
        """def copy_ratio(fakes, members, held_out):
    shares = members.split(len(held_out))
    near = torch.stack([torch.cdist(fakes, share).min(1).values.mean() for share in shares]).mean()
    return (torch.cdist(fakes, held_out).min(1).values.mean() / near).item()""": "other way round",
        """def copy_ratio(fakes, members, held_out):
    return (torch.cdist(fakes, members).mean() / torch.cdist(fakes, held_out).mean()).item()""": "take the nearest",
        """def copy_ratio(fakes, members, held_out):
    near = torch.cdist(fakes, members[: len(held_out)]).min(1).values.mean()
    return (near / torch.cdist(fakes, held_out).min(1).values.mean()).item()""": "first share",
    },
    check=check_copies,
)

EXERCISES = (LARGEST, COPIES)
