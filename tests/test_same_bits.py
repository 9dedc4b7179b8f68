"""What the program trains has not changed since the library was one flat folder: old and new code, side by side.

The numbers of the judge, and the oracle, are others by now, on purpose.

The old code is taken from the repository's own history, so that both run on the same machine, with the same torch.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAST_OF_THE_FLAT_FOLDER = "81ba852"

OLD_NAMES = """
from functools import partial
from fl_gan_lib.attack import GANAttacker, build_federation, run_attack
from fl_gan_lib.data import load_dataset
from fl_gan_lib.defences import AugmentingClient, DropoutClient, Krum, Quantise, WithholdingClient
from fl_gan_lib.federation import federate
from fl_gan_lib.privacy import ClipAndNoise, PrivateClient, PrivateMean
from fl_gan_lib.variants import HedgingAttacker

withholding = partial(WithholdingClient, digit=3, every=2)

def sharing(upload, download):
    return {"client_options": {"upload_fraction": upload, "download_fraction": download}}
"""

NEW_NAMES = """
from functools import partial
from fl_gan_lib.attack import GANAttacker, build_federation, run_attack
from fl_gan_lib.data import load_dataset
from fl_gan_lib.defences import AugmentingClient, ClipAndNoise, DropoutClient, Krum, PrivateClient
from fl_gan_lib.defences import PrivateMean, Quantise, WithholdingClient
from fl_gan_lib.federation import federate
from fl_gan_lib.studies.anatomy import sharing
from fl_gan_lib.studies.variants import HedgingAttacker

withholding = partial(WithholdingClient, target=3, every=2)
"""

SCRIPT = """
import hashlib, json
from functools import partial
import torch

torch.set_num_threads(1)
digests = {}

def of_record(record):
    pixels = record.samples.tobytes() + record.final_samples.tobytes() + record.private_samples.tobytes()
    numbers = record.metrics[["round", "accuracy", "target_accuracy", "diversity"]].to_csv().encode()
    return hashlib.sha256(pixels + numbers).hexdigest()

def of_federation(clients_per_round=None, aggregate=None, **options):
    model, clients = build_federation(load_dataset()[0], 3, num_rounds=20, device="cpu", **options)
    for round in federate(model, clients, num_rounds=20, clients_per_round=clients_per_round, aggregate=aggregate):
        if round.number == 2:
            break
    weights = [*model.state_dict().values(), *clients[-1].generator.average.state_dict().values()]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights)).hexdigest()

# 110 divides the 2,200 images of the victim: the old code rounded the expected size of its batches otherwise.
private = partial(PrivateClient, epsilon=8.0, num_rounds=20, batch_size=110)
run = partial(run_attack, 3, num_frames=1, device="cpu", progress=False)
digests["attack"] = of_record(run(rounds=6))
digests["attack, partial sharing"] = of_record(run(rounds=3, **sharing(0.1, 0.1)))
digests["attack, private client"] = of_record(run(rounds=3, make_honest=private))
digests["uploads of a hundredth"] = of_federation(**sharing(0.01, 1.0))
digests["downloads of a tenth"] = of_federation(**sharing(1.0, 0.1))
digests["some of many, noise at the clients"] = of_federation(
    num_honest=4, clients_per_round=3, client_options={"protect": ClipAndNoise(0.5, 0.1)}
)
digests["noise at the server"] = of_federation(num_honest=2, aggregate=PrivateMean(0.5, 0.1))
digests["Krum"] = of_federation(num_honest=5, num_without_target=1, aggregate=Krum(6, 1))
digests["few bits"] = of_federation(client_options={"protect": Quantise(2)})
digests["augmentation"] = of_federation(make_honest=AugmentingClient)
digests["dropout"] = of_federation(make_honest=DropoutClient)
digests["withholding"] = of_federation(make_honest=withholding)
digests["hedging"] = of_federation(make_attacker=partial(HedgingAttacker, fake_label=0))
print(json.dumps(digests))
"""


def digests(folder: Path, names: str) -> dict[str, str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", names + SCRIPT]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_the_same_bits_as_in_the_flat_folder(tmp_path):
    archive = subprocess.run(["git", "archive", LAST_OF_THE_FLAT_FOLDER, "fl_gan_lib"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("the repository's history is not here: a shallow clone, or none")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as old:
        old.extractall(tmp_path, filter="data")
    assert digests(ROOT, NEW_NAMES) == digests(tmp_path, OLD_NAMES)
