"""What one computer of the federation has: its own images, its own client, and what that client remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.common.logger import log
from torch import nn

from fl_gan_lib.arguments import truth
from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client
from fl_gan_lib.flower.settings import RunConfig
from fl_gan_lib.partitions import split_participants
from fl_gan_lib.recording import files, states


@dataclass(frozen=True)
class Images:
    """What a node holds.

    Attributes:
        train: the images that it trains on.
        test: those that it keeps for measurements; None where it has none, as the attacker.
        dataset: the public data set that they are a share of, whose numbers the rest of the project reports; else "".
        may_judge: whether the node may judge fakes, and show ten of its images beside them.
    """

    train: ImageDataset
    test: ImageDataset | None
    dataset: str = ""
    may_judge: bool = False


def own_images(run: RunConfig, turn: int, config: Mapping[str, Any]) -> Images:
    """The images of a node, by its `--node-config`; nothing else is kept. It judges if `judge` is true there.

    - Without `data`, its share of the public data set. Then it judges unless `judge` is false, as anybody may see them.
    - `data` names a folder with a sub-folder for each class: those images, of which a fifth is for measurements.
    - `data` names a file of `write_shares`: what is in it.
    - `data` names a file of drawings: those, as the class that the public data set lacks, and the node's share of it.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: the images are of other classes or sizes than the federation has agreed on; there is none; or the
            attacker's node holds images of the target.
    """
    may_judge = truth("judge", config.get("judge", not config.get("data")))
    images = replace(_own_images(run, turn, config.get("data", "")), may_judge=may_judge)
    if turn == run.num_honest and len(images.train.images_of(run.target)):
        raise ValueError(
            f"this node has the attacker's partition-id, {config.get('partition-id')}, and holds images of the target "
            f"{run.target_name}: give it a partition-id of its own, or, if it is the attacker, other images"
        )
    return images


def _own_images(run: RunConfig, turn: int, data: Any) -> Images:
    if not isinstance(data, str):
        raise ValueError(f"data is {data!r:.80}: it must be the name of a folder, or of a file, of your images")
    if not data:
        if not run.dataset:
            raise ValueError(
                "this node has no images, and the run has no public data set: start the SuperNode with --node-config "
                "'partition-id=... data=\"the folder of your images\"'"
            )
        return _share(run, turn)
    path = Path(data).expanduser()
    if path.suffix != ".npz":
        train, test = ImageDataset.from_folder(path, side=run.side).split()
        return Images(*(_renumbered(part, run.classes, path) for part in (train, test)))
    try:
        text, arrays = files.unpack(path.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}: name the file of your images") from error
    except ValueError as error:
        raise ValueError(f"{path} is no file of images ({error}): make it again") from error
    if "drawings" in arrays:
        return _with_drawings(run, turn, arrays["drawings"], path)
    try:
        parts = [
            ImageDataset(
                from_uint8(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"]), tuple(text["classes"])
            )
            for part in ("train", "test")
            if part == "train" or f"{part}_images" in arrays
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds neither images nor drawings (there is no {error}): make it again") from error
    parts = [_renumbered(part, run.classes, path) for part in parts]
    if parts[0].side != run.side:
        raise ValueError(
            f"the images in {path} have {parts[0].side} x {parts[0].side} pixels, and the federation has agreed on "
            f"{run.side} x {run.side}: resize them, or give another side"
        )
    dataset = run.dataset if text.get("dataset") == run.dataset else ""
    return Images(parts[0], parts[1] if len(parts) > 1 else None, dataset)


def _renumbered(images: ImageDataset, classes: tuple[str, ...], path: Path) -> ImageDataset:
    """The same images, with the federation's numbers of the classes."""
    if unknown := set(images.classes) - set(classes):
        raise ValueError(
            f"{path} has the classes {', '.join(sorted(unknown))}, and the federation has agreed on "
            f"{', '.join(classes[:12])}{', ...' * (len(classes) > 12)}: give them the same names, or start the run "
            "with other classes"
        )
    numbers = torch.tensor([classes.index(name) for name in images.classes])
    return ImageDataset(images.images, numbers[images.labels], classes)


@lru_cache(maxsize=1)
def _public(dataset: str) -> tuple[ImageDataset, ImageDataset]:
    """Once a process: the workers of a simulation live through many messages."""
    return load_dataset(dataset)


@lru_cache(maxsize=1)
def _parts(run: RunConfig) -> list[np.ndarray]:
    return split_participants(
        _public(run.dataset)[0].labels,
        run.target,
        num_classes=len(run.classes),
        num_honest=run.num_honest,
        seed=run.seed,
    )


def _share(run: RunConfig, turn: int) -> Images:
    train, test = (ImageDataset(part.images, part.labels, run.classes) for part in _public(run.dataset))
    own = train.subset(_parts(run)[turn])
    return Images(own, None if turn == run.num_honest else test, run.dataset)


def _with_drawings(run: RunConfig, turn: int, pictures: np.ndarray, path: Path) -> Images:
    from fl_gan_lib.datasets.drawings import drawings

    public = _public(run.dataset)[0].classes if run.dataset else ()
    if (run.dataset, len(run.classes)) != ("mnist-5k", len(public) + 1):
        raise ValueError(
            f"{path} holds drawings: they need dataset='mnist-5k' and one class more than the digits, as in "
            "classes='0,1,2,3,4,5,6,7,8,9,secret'"
        )
    if turn == run.num_honest:
        raise ValueError(
            f"{path} holds drawings, and this node is the attacker, who lacks them: give the partition-id of another "
            "node, or say in the run configuration which one attacks (attacker)"
        )
    name = run.classes[-1]
    drawn = [part.subset(part.labels == len(public)) for part in drawings(pictures, name, seed=run.seed)]
    share = _share(run, turn)
    both = [
        ImageDataset(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]), run.classes)
        for one, other in zip((share.train, share.test), drawn, strict=True)
    ]
    return Images(*both)


def write_shares(run: RunConfig, folder: Path) -> list[Path]:
    """Deal the public data set out: a file for each partition, with what that node will hold, to be handed to it.

    The attacker's has no image of the target, and none for measurements.
    """
    paths = []
    for partition in range(run.num_nodes):
        images = _share(run, run.turn(partition))
        arrays = {}
        for name, part in (("train", images.train), ("test", images.test)):
            if part is not None:
                arrays |= {f"{name}_images": to_uint8(part.images), f"{name}_labels": part.labels.numpy()}
        content = files.pack({"classes": list(run.classes), "dataset": run.dataset}, arrays, compress=False)
        paths.append(files.write_atomically(folder / f"images_{partition}.npz", content))
        paths[-1].chmod(0o600)
    return paths


def build_client(run: RunConfig, turn: int, images: ImageDataset) -> Client:
    """The node's own client, the same as in `attack.build_federation`, to the last bit."""
    options: dict[str, Any] = {"local_steps": run.local_steps}
    if turn < run.num_honest:
        return Client(images, **options)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        run.make_model()  # there, the weights of the generator are drawn after those of the model
        options |= {"generator_steps": run.generator_steps, "num_rounds": run.rounds, "inject": run.inject}
        return GANAttacker(images, run.target_name, **options)


@dataclass(frozen=True)
class Memory:
    """What a client remembers from message to message: in the state that Flower keeps, and in a file if wanted.

    Flower's state of a node is in the memory of its SuperNode, and goes with it. With a folder, a node that is started
    again goes on from its file. The file names the run and the node that it is of, and a damaged one is found out.

    Attributes:
        state: the node's `context.state`.
        identity: of the run and the node.
        folder: of the file, on the node's computer; none if empty.
    """

    state: RecordDict
    identity: dict[str, Any]
    folder: str

    @classmethod
    def of(cls, context: Context, run: RunConfig, turn: int) -> Memory:
        """That of the node in this run; `keep="folder"` in its `--node-config` names the folder."""
        folder = context.node_config.get("keep", "")
        if not isinstance(folder, str):
            raise ValueError(f"keep is {folder!r:.80}: it must be the name of a folder, for what this node remembers")
        return cls(context.state, {"run": context.run_id, "turn": turn} | run.describe(), folder)

    @property
    def path(self) -> Path:
        return Path(self.folder).expanduser() / f"node_{self.identity['turn']}.npz"

    def recall(self, client: Client, model: nn.Module) -> bool:
        """Put `client` into the state in which the last message left it; whether there is one."""
        content = self.state["client"]["state"] if "client" in self.state else self._from_file()
        if content is None:
            return False
        states.load_client(content, client, model)
        return True

    def keep(self, client: Client) -> None:
        """Remember how the message has left `client`. A file that cannot be written costs no round: a warning."""
        content = states.dump(client.lasting_parts())
        self.state["client"] = ConfigRecord({"state": content})
        if self.folder:
            arrays = {"state": np.frombuffer(content, np.uint8)}
            try:
                files.write_atomically(self.path, files.pack({"identity": self.identity}, arrays, compress=False))
            except OSError as error:
                log(WARNING, "%s cannot be written; killed, this node would begin anew: %s", self.path, error)

    def _from_file(self) -> bytes | None:
        if not self.folder or not self.path.exists():
            return None
        try:
            text, arrays = files.unpack(self.path.read_bytes())
            if text["identity"] != self.identity:
                return None  # of another run
            return arrays["state"].tobytes()
        except (KeyError, ValueError) as error:
            log(WARNING, "%s cannot be used, so the client begins anew: %s", self.path, error)
            return None
