"""The study of notebook 08: who is in which photographs, the network that identifies, and the test for copies."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from fl_gan_lib import judge, metrics
from fl_gan_lib.data import ImageDataset, to_uint8
from fl_gan_lib.federation import federate
from fl_gan_lib.judge import train_judge
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.studies import baselines, faces, identification
from fl_gan_lib.studies.faces import REPORTED, SETTINGS, TUNED_ON
from fl_gan_lib.studies.identification import copying, of_nobody, people, ranks, train_identifier, vary


def test_no_photograph_is_in_the_federation_and_before_the_identifier():
    train, held_out = people()
    for part, number in ((train, 6), (held_out, 4)):
        assert torch.bincount(part.labels).tolist() == [number] * 40
    seen, unseen = ({image.numpy().tobytes() for image in part.images} for part in (train, held_out))
    assert not seen & unseen and len(seen | unseen) == 400
    assert not {*TUNED_ON} & {*REPORTED} and len(REPORTED) == 10


def test_the_identifier_names_people_on_photographs_that_it_has_not_seen_and_nobody_on_what_is_no_face():
    train, held_out = people()
    few = [part.subset(part.labels < 5) for part in (train, held_out)]
    few = [ImageDataset(part.images, part.labels, train.classes[:5]) for part in few]
    identifier = train_identifier(few[1], steps=60)
    assert (identifier(few[0].images).argmax(1) == few[0].labels).float().mean() > 0.8
    grey = torch.linspace(-1, 1, 21)[:, None, None, None].expand(21, 1, 32, 32)
    noise = 2 * torch.rand(50, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    assert (identifier(torch.cat([grey, noise])).argmax(1) == 5).float().mean() > 0.9


@pytest.mark.parametrize("side", [16, 20, 28, 64])
def test_an_identifier_takes_images_of_each_side(side):
    images = ImageDataset(torch.linspace(-1, 1, 4 * side**2).reshape(4, 1, side, side), torch.tensor([0, 1, 0, 1]))
    assert train_identifier(images, steps=2)(images.images).shape == (4, 3)


def test_images_of_nobody_are_of_four_kinds():
    photographs = people()[0].images
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = of_nobody(photographs)
    assert images.shape == photographs.shape and images.min() >= -1 and images.max() <= 1
    grey = images.flatten(1).std(1) == 0
    same_pixels = torch.tensor(
        [torch.equal(*(one.flatten().sort().values for one in pair)) for pair in zip(images, photographs, strict=True)]
    )
    assert 40 < grey.sum() < 80 and 40 < same_pixels.sum() < 80 and not (images == photographs).flatten(1).all(1).any()


def test_ranks_are_places_among_all_answers():
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.1]])
    images = torch.zeros(2, 1, 4, 4)
    assert ranks([lambda _: logits], images, 0).tolist() == [3, 1]
    others = [lambda _: logits, lambda _: 4 * logits.flip(1)]  # the second is surer
    assert ranks(others, images, 0).tolist() == [2, 2]


@pytest.fixture(scope="module")
def photographs():
    return tuple(part.images_of("s3") for part in people())


def test_copies_are_found_whatever_their_brightness(photographs):
    own, held_out = photographs
    ratio, share = copying(to_uint8(own.repeat(9, 1, 1, 1) * 0.7 + 0.1), own, held_out)
    assert ratio < 0.9 and share == pytest.approx(1 / 210)
    ratio, share = copying(to_uint8(held_out.repeat(9, 1, 1, 1)), own, held_out)
    assert ratio > 1.5 and share == 1


def test_without_copies_the_share_is_not_small(photographs):
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32), dtype=np.uint8)
    assert copying(noise, *photographs)[1] > 0.05


def test_images_vary_and_gradients_go_through():
    images = people()[0].images[:64].clone().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        varied = vary(images)
    assert varied.shape == images.shape and (varied != images).flatten(1).any(1).all()
    assert 0.05 < (varied - images).abs().mean() < 0.4 and varied.detach().abs().max() <= 1.001
    varied.sum().backward()
    assert (images.grad[:, :, 12:20, 12:20] > 0).all()


def test_the_attacker_varies_what_the_model_sees():
    attacker = faces.VaryingAttacker(people()[0].subset(people()[0].labels != 4), "s5", num_rounds=2)
    assert attacker.num_fakes == 52
    seen = []
    received = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 41))
    discriminator = attacker.make_discriminator(received)
    discriminator[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = people()[0].images[:1]
    for _ in range(5):
        discriminator(image)
    assert {one.shape for one in seen} == {image.shape}
    assert len({one.numpy().tobytes() for one in [image, *seen]}) == 6
    assert attacker.generator.draw(3).shape == (3, 1, 32, 32)


def test_every_setting_runs_and_the_records_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(identification, "train_identifier", partial(train_identifier, steps=2))
    monkeypatch.setattr(faces.VaryingAttacker, "prior_steps", 2)
    for module in (judge, metrics, baselines):
        monkeypatch.setattr(module, "train_judge", lambda train, seed, steps=0: train_judge(train, seed=seed, steps=1))
    monkeypatch.setattr(faces, "SETTINGS", {name: (job, chosen[:1], 1) for name, (job, chosen, _) in SETTINGS.items()})
    crowds = []

    def watch(model, clients, **options):
        crowds.append(clients)
        return federate(model, clients, **options)

    monkeypatch.setattr(faces, "federate", watch)
    identification.load_identifiers.cache_clear()
    table = faces.compare_people(tmp_path / "faces.csv", rounds=1, num_workers=1)
    identification.load_identifiers.cache_clear()
    assert set(table["setting"]) == set(SETTINGS) and (table["identified"] <= 1).all()
    last = table.groupby("setting").tail(1).set_index("setting")
    judged = last.drop(["40 honest, a person each", "39 honest, without the person"])
    assert judged[["probe", "tstr", "copy_ratio", "copy_share"]].notna().all(axis=None)
    person = people()[0].label_of("s3")
    holding = [sum((client.dataset.labels == person).any().item() for client in clients) for clients in crowds]
    assert [len(clients) for clients in crowds] == [41, 40] and holding == [1, 0], "with the attacker"
    assert last.loc["real images", "copy_share"] == 0.0048  # 1 of 210
    assert list(pd.read_csv(tmp_path / "faces.csv")["setting"]) == list(table["setting"])
    record = AttackRecord.load(tmp_path / "faces" / "attack_s3.npz")
    assert record.target_name == "s3" and len(record.final_samples) == 12 and record.metrics["identified"].notna().all()
    larger = AttackRecord.load(tmp_path / "faces" / "64_x_64_s3.npz")
    assert larger.samples.shape[-1] == 64 and len(larger.final_samples) == 12
