"""Who holds which images: ways to deal a data set out to the clients of a federation."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from fl_gan_lib.arguments import check_seed, real_number, whole_number


def partition_iid(labels: np.ndarray | Tensor, num_clients: int, *, seed: int = 0) -> list[np.ndarray]:
    """Deal all samples out at random, in shares of equal size (give or take one).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        seed: of the shuffle.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: there are no clients, or more clients than samples.
    """
    labels, num_clients, seed = _check_partition(labels, num_clients, seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    return [np.sort(part) for part in np.array_split(order, num_clients)]


def partition_by_label(
    labels: np.ndarray | Tensor,
    num_clients: int,
    labels_per_client: int | Sequence[Collection[int]] | None = None,
    *,
    seed: int = 0,
) -> list[np.ndarray]:
    """Give each client only some of the labels (the pathological non-IID split of McMahan et al. 2017, section 3).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        labels_per_client: either how many labels each client holds (client i gets the i-th run of that many, starting
            over after the last label), or the labels of each client, spelled out; by default just enough that
            every label is held. The samples of a label are dealt out evenly among the clients that hold it. If there
            are fewer samples than such clients, they go to those that have the fewest samples so far.
        seed: of the shuffle.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: there are more clients than samples, nobody would hold a label, or a client would hold no sample.
    """
    labels, num_clients, seed = _check_partition(labels, num_clients, seed)
    present = [int(label) for label in np.unique(labels)]
    if labels_per_client is None:
        labels_per_client = math.ceil(len(present) / num_clients)
    if not isinstance(labels_per_client, Sequence) and getattr(labels_per_client, "ndim", 0) == 0:
        labels_per_client = whole_number("labels_per_client", labels_per_client, 1, len(present))
        starts = range(0, num_clients * labels_per_client, labels_per_client)
        holdings = [{present[(s + j) % len(present)] for j in range(labels_per_client)} for s in starts]
    else:
        holdings = [_spelled_out(held) for held in labels_per_client]
        if len(holdings) != num_clients:
            raise ValueError(f"labels_per_client names {len(holdings)} clients, and num_clients is {num_clients}")
    rng = np.random.default_rng(seed)
    shares: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in present:
        holders = [client for client, held in enumerate(holdings) if label in held]
        if not holders:
            raise ValueError(f"nobody holds label {label}: give it to a client, or give more labels_per_client")
        samples = rng.permutation(np.flatnonzero(labels == label))
        if len(samples) < len(holders):
            holders.sort(key=lambda client: sum(map(len, shares[client])))
        for client, part in zip(holders, np.array_split(samples, len(holders)), strict=True):
            shares[client].append(part)
    return _collect(shares)


def partition_dirichlet(
    labels: np.ndarray | Tensor, num_clients: int, alpha: float = 0.5, *, seed: int = 0
) -> list[np.ndarray]:
    """Draw each label's shares from a Dirichlet distribution (Yurochkin et al. 2019, arXiv 1905.12022).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        alpha: concentration, greater than 0. Near 0 each label sits with one client; large values approach IID.
        seed: of the shuffle and of the draws.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: alpha is not positive, there are more clients than samples, or a client stays empty in 100 draws.
    """
    labels, num_clients, seed = _check_partition(labels, num_clients, seed)
    alpha = real_number("alpha", alpha, above=0, why="(0.1 is uneven, 100 nearly IID)")
    rng = np.random.default_rng(seed)
    for _ in range(100):  # a small alpha leaves a client empty now and then: draw again
        shares: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        for label in np.unique(labels):
            samples = rng.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(rng.dirichlet(np.full(num_clients, alpha)))[:-1] * len(samples)
            for share, part in zip(shares, np.split(samples, cuts.astype(int)), strict=True):
                share.append(part)
        if all(sum(map(len, share)) for share in shares):
            break
    return _collect(shares)


def split_participants(
    labels: Tensor,
    target: int,
    *,
    num_classes: int = 10,
    num_honest: int = 1,
    split: str = "all-but-target",
    num_without_target: int = 0,
    images_per_client: int | None = None,
    target_images: int | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Deal the training images out to the honest clients and, last, the attacker.

    Args:
        labels: of the training images.
        target: the label of the class that the attacker lacks.
        num_classes: how many classes there are.
        num_honest: honest clients, at least 1; the first is called the victim.
        split: `"all-but-target"`: the honest clients hold all classes, the attacker all but one. `"paper"`: the honest
            clients hold the first half of the classes, the attacker the others (Hitaj et al. 2017, MNIST experiments).
        num_without_target: how many of the honest clients, the last ones, lack the target as the attacker does.
        images_per_client: each participant keeps only that many images, drawn at random; by default all are dealt out.
        target_images: each honest client keeps only that many images of the target; by default all of its share.
        seed: of the shuffle.

    Returns:
        num_honest + 1 index arrays.

    Raises:
        ValueError: an argument is out of range, or the split leaves nobody with the target.
    """
    num_classes = whole_number("num_classes", num_classes, 2)
    target = whole_number("target", target, 0, num_classes - 1, why="(the label of a class)")
    why = "(somebody must hold the target, and each participant an image)"
    num_honest = whole_number("num_honest", num_honest, 1, max(1, len(labels) - 1), why=why)
    why = f"(one of the {num_honest} honest clients must hold the target)"
    num_without_target = whole_number("num_without_target", num_without_target, 0, num_honest - 1, why=why)
    half = num_classes // 2
    holdings = {
        "all-but-target": (range(num_classes), set(range(num_classes)) - {target}),
        "paper": (range(half), range(half, num_classes)),
    }
    if split not in holdings:
        raise ValueError(f"split is {split!r:.80}: use one of {', '.join(map(repr, holdings))}")
    honest, attacker = holdings[split]
    if target not in honest:
        raise ValueError(f"in the split {split!r} nobody but the attacker holds {target}: choose one of {list(honest)}")
    held = [honest] * (num_honest - num_without_target) + [set(honest) - {target}] * num_without_target + [attacker]
    parts = partition_by_label(labels, num_honest + 1, held, seed=seed)
    rng = np.random.default_rng(seed)
    if target_images is not None:
        wanted = np.asarray(labels) == target
        parts = [
            np.concatenate([part[~wanted[part]], _choose(rng, part[wanted[part]], target_images, "target_images")])
            if wanted[part].any()
            else part
            for part in parts
        ]
    if images_per_client is not None:
        parts = [_choose(rng, part, images_per_client, "images_per_client") for part in parts]
    return [np.sort(part) for part in parts]


def _spelled_out(held: Collection[int]) -> set[int]:
    try:
        labels = list(held)
    except TypeError:
        raise ValueError(
            f"labels_per_client has {held!r:.80} for a client: give each client a collection of labels, or one number "
            "for all clients"
        ) from None
    return {whole_number("labels_per_client", label, 0) for label in labels}


def _choose(rng: np.random.Generator, indices: np.ndarray, size: int, name: str) -> np.ndarray:
    size = whole_number(name, size, 1, len(indices), why="(what a client's share holds)")
    return rng.choice(indices, size, replace=False)


def _check_partition(labels: np.ndarray | Tensor, num_clients: int, seed: int) -> tuple[np.ndarray, int, int]:
    labels = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}: they must be whole numbers of shape (N,), a number "
            "for each class"
        )
    if not len(labels):
        raise ValueError("there are no labels: there is nothing to deal out")
    num_clients = whole_number("num_clients", num_clients, 1, len(labels), why="(the samples: each client needs one)")
    return labels, num_clients, check_seed(seed)


def _collect(shares: list[list[np.ndarray]]) -> list[np.ndarray]:
    parts = [np.sort(np.concatenate(share)) if share else np.array([], dtype=np.int64) for share in shares]
    empty = [client for client, part in enumerate(parts) if len(part) == 0]
    if empty:
        raise ValueError(
            f"clients {empty!s:.80} would hold no sample: use fewer clients, a larger alpha or another seed"
        )
    return parts
