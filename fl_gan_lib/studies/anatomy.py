"""What notebook 05 compares: the attack with each of its parts taken away or replaced."""

from __future__ import annotations

from functools import partial
from typing import Any

from fl_gan_lib.attack import GENERATOR_STEPS, GANAttacker
from fl_gan_lib.defences import KeepLargest, PartialDownloadClient
from fl_gan_lib.models import Classifier
from fl_gan_lib.studies.jobs import (
    attack_job,
    honest_job,
    inversion_job,
    memory_job,
    oracle_job,
    withheld_attack,
)
from fl_gan_lib.studies.sweep import Job
from fl_gan_lib.studies.variants import (
    LeakyClassifier,
    MLPGenerator,
    PartialDownloadAttacker,
    PlainAttacker,
    PriorAttacker,
    StridedClassifier,
)


def sharing(upload: float, download: float) -> dict[str, Any]:
    """Options of an attack in which everybody, the attacker included, shares these fractions of the parameters."""
    return {
        "make_honest": partial(PartialDownloadClient, download_fraction=download),
        "make_attacker": partial(PartialDownloadAttacker, download_fraction=download),
        "client_options": {"protect": KeepLargest(upload)},
    }


def _turns(rounds: int, local_steps: int, generator_steps: int) -> Job:
    attacker = partial(GANAttacker, generator_steps=generator_steps)
    return partial(attack_job, rounds=rounds, make_attacker=attacker, client_options={"local_steps": local_steps})


# The settings of notebook 05, by name. Where they say nothing else: digit 3, 100 rounds, one honest client.
SETTINGS: dict[str, Job] = {
    "default": attack_job,
    "honest federation": honest_job,
    "no injection": partial(attack_job, inject=False),
    # Of 200 rounds, as in notebook 03, which builds the first one by hand and then adds one thing after another.
    "by hand": partial(attack_job, rounds=200, make_attacker=PlainAttacker),
    "by hand, averaged": partial(attack_job, rounds=200, make_attacker=partial(PlainAttacker, averaged=True)),
    "by hand, averaged, falling rate": partial(
        attack_job, rounds=200, make_attacker=partial(PlainAttacker, averaged=True, falling=True)
    ),
    "1 honest": partial(attack_job, rounds=60),
    "40 honest, 400 rounds": partial(attack_job, rounds=400, num_honest=40),
    "4 honest, same total": partial(attack_job, rounds=60, num_honest=4),
    "9 honest, same total": partial(attack_job, rounds=60, num_honest=9),
    "40 honest, same total": partial(attack_job, rounds=60, num_honest=40),
    "1 honest, 97 images each": partial(attack_job, rounds=60, images_per_client=97),
    "4 honest, 97 images each": partial(attack_job, rounds=60, num_honest=4, images_per_client=97),
    "9 honest, 97 images each": partial(attack_job, rounds=60, num_honest=9, images_per_client=97),
    "up 0.5, down 0.5": partial(attack_job, **sharing(0.5, 0.5)),
    "up 0.1, down 0.1": partial(attack_job, **sharing(0.1, 0.1)),
    "up 0.1, down 1": partial(attack_job, **sharing(0.1, 1)),
    "up 1, down 0.1": partial(attack_job, **sharing(1, 0.1)),
    "400 rounds of 2 steps": _turns(400, 2, GENERATOR_STEPS // 4),
    "25 rounds of 32 steps": _turns(25, 32, 4 * GENERATOR_STEPS),
    "5 rounds of 160 steps": _turns(5, 160, 20 * GENERATOR_STEPS),
    "strided LeakyReLU": partial(attack_job, make_model=StridedClassifier),
    "strided tanh": partial(attack_job, make_model=partial(StridedClassifier, leaky=False)),
    "pooled LeakyReLU": partial(attack_job, make_model=LeakyClassifier),
    "ten outputs": partial(
        attack_job, make_model=partial(Classifier, 10), make_attacker=partial(GANAttacker, fake_label=0)
    ),
    "MLP generator": partial(attack_job, make_attacker=partial(GANAttacker, make_generator=MLPGenerator)),
    "the paper's split": partial(attack_job, split="paper"),
    "10 images of the target": partial(attack_job, target_images=10),
    "50 images of the target": partial(attack_job, target_images=50),
    "200 images of the target": partial(attack_job, target_images=200),
    "inversion, honest model": partial(inversion_job, attacked=False),
    "inversion, attacked model": inversion_job,
    "generator, honest model": partial(inversion_job, attacked=False, with_generator=True),
    "generator, attacked model": partial(inversion_job, with_generator=True),
    "generator, before the quiet rounds": partial(inversion_job, finished=False, with_generator=True),
    "oracle": oracle_job,
    "oracle, all classes": partial(oracle_job, all_classes=True),
    "class held back": partial(withheld_attack, every=None),
    "learned by heart": memory_job,
    "own digits first": partial(attack_job, make_attacker=PriorAttacker),
}
