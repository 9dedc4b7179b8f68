md("""
# 08 · A class is a person

**What you will learn**

- what the attack does when a class is one person: it draws somebody of whom the attacker has no photograph;
- to measure a likeness: would another network recognise the person?
- to ask whether single photographs were copied, with a test that can say no;
- what helps this victim.

**You need** [03 · The GAN attack](03_gan_attack.ipynb).

**Run time**: RUNTIME. The other runs are recorded, and `make faces` repeats them. **Previous**: [07](07_beyond_one_machine.ipynb).
""")
code(
    """
person = "s10"  # whom the attacker wants to see: the name of a class
data = ""  # your own images instead: a folder with a sub-folder for each class, or a file of drawings
rounds = None  # None: the library's default
seed = 0
output = "../out"  # where the record goes
""",
    tags=["parameters"],
)
code("""
import numpy as np
import pandas as pd

from fl_gan_lib.attack import run_attack
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8
from fl_gan_lib.datasets.drawings import drawings
from fl_gan_lib.explorer.page import load_runs
from fl_gan_lib.explorer.widget import attack_explorer
from fl_gan_lib.figures import plot_strips
from fl_gan_lib.lessons import check
from fl_gan_lib.notebooks import enter_notebooks
from fl_gan_lib.records import record_path
from fl_gan_lib.studies import faces
""")
code("""
enter_notebooks()  # the paths below are relative to notebooks/
if data.endswith(".npz"):
    train, held_out = drawings(np.load(data)["drawings"])
elif data:
    train, held_out = ImageDataset.from_folder(data, side=32).split(faces.HELD_OUT)
else:
    train, held_out = faces.people()
num_rounds = faces.ROUNDS if rounds is None else rounds
print(f"{len(train)} images for the federation, {len(held_out)} held out, {len(train.classes)} classes")
""")
md("""
## 1. Why digits are not the point

A 3 belongs to nobody. Other federations have other classes: the owner of a phone, a patient, a house. Where each class is one person, "what the class looks like" is that person's face.

**The photographs** are those of AT&T Laboratories Cambridge, taken between 1992 and 1994 (Samaria and Harter 1994): 40 people, s1 to s40, with ten grey photographs each. The paper used them for its second experiment, and hundreds of others have used them as well. There is no open licence, and nobody asked these people about an attack that did not exist. So this notebook shows few photographs, only where an argument needs them, and names nobody. Please do not pass them on. For experiments of your own, take images of people who have agreed, or drawings (section 8).

**Who holds what.** Six photographs of each person go into the federation: the victim holds all six of the target, and three of each other person, and the attacker holds the other three. The remaining four of each person are held out for section 3. No photograph is in both parts.
""")
md("""
## 2. The attack on one person

The attack is that of notebook 03, at 32 x 32. A digit had 400 images, and a person has six. This attacker does four things more, all of them at home:

1. **It begins with faces.** It has photographs of 39 other people. Before the first round, its generator learns to draw those, as an ordinary GAN.
2. **It moves its fakes** by up to two pixels before the received model judges them. A pattern of dots that happens to please the model does not survive that. A face does.
3. **It injects as many fakes as it has images.** With so few photographs of the target, most of what tells real from fake is in its own mini-batches.
4. **It blurs a little.** Transposed convolutions leave a grid of dots, and a blur after each of them removes it.

The next cell runs it. Choose another person in the cell of parameters.
""")
code(
    """
path = record_path(output, person, "likeness")
record = run_attack(person, dataset=(train, held_out), rounds=num_rounds, seed=seed, path=path, **faces.FEDERATION)
""",
    tags=["nbval-ignore-output"],
)
code(
    """
shown = np.unique(np.linspace(3, len(record.rounds) - 1, 6).round().astype(int))
strips = {"private photographs": to_uint8(train.images_of(person))}
strips |= {f"fakes, round {record.rounds[row]}": record.samples[row] for row in shown}
plot_strips(strips, columns=6, size=0.9)
""",
    tags=["nbval-ignore-output"],
    alt="ALT1",
)
md("""
*Look at* LOOK1
""")
md("""
Ten recorded attacks, on other people than those on whom the settings were chosen:
""")
code(
    """
runs = load_runs("runs/faces")
records = runs.pop("attack")
gap = np.full((1, 32, 32), 255, np.uint8)
rows = {one.target_name: np.concatenate([one.private_samples[:3], gap, one.samples[-1]]) for one in records.values()}
plot_strips(rows, columns=12, title="three private photographs, and eight fakes of the last round")
""",
    alt="ALT2",
)
md("""
*Look at* LOOK2 The explorer has all their rounds:
""")
code(
    """
attack_explorer(records, beside=runs)
""",
    tags=["nbval-ignore-output"],
)
md("""
## 3. Is it the person?

You have looked. For a number we need somebody else: an **identifier**, a network of another kind that has learned the forty people from the four photographs of each that the federation never saw. For each fake it ranks the forty people, and one more answer: *nobody*. It has learned to say *nobody* of plain greys, noise, soft blobs, and photographs cut into 16 squares and shuffled. Without that answer an identifier must name somebody. Our first one took plain white for s1, with full confidence, and uniform noise for s31.

**Identification** is the share of fakes for which the person is ranked first. By guessing it would be 1 in 40, or 0.025.
""")
code(
    """
identifier = faces.train_identifier(held_out)
named_right = (identifier(train.images).argmax(1) == train.labels).float().mean().item()
found = faces.ranks(identifier, from_uint8(record.final_samples), train.label_of(person))
print(f"{named_right:.3f} of the federation's own photographs are named right")
print(f"{(found == 1).mean():.3f} of the fakes are named {person}; the median rank is {np.median(found):.0f}")
""",
    tags=["nbval-ignore-output"],
)
md("""
The recorded runs: ten people, three seeds. The settings and the number of rounds were chosen on five *other* people. *Nobody holds the person* is the same federation, whose victim keeps the six photographs to itself: what the other 39 people tell. The table has medians over the runs and, in brackets, the lowest and the highest.
""")
code("""
table = pd.read_csv("runs/faces.csv")
last = table.groupby(["setting", "person", "seed"]).tail(1)


def spread(runs):
    return f"{runs.median():.2f} ({runs.min():.2f} to {runs.max():.2f})"


def summary(*names, columns=("identified", "median_rank"), people=faces.REPORTED):
    chosen = last[last["setting"].isin(names) & last["person"].isin(people)].groupby("setting")
    return chosen[list(columns)].agg(spread).assign(runs=chosen.size()).loc[list(names)]


summary("attack", "nobody holds the person", "noise", "real images")
""")
md("""
TABLE1
""")
code("""
by_person = last[last["setting"] == "attack"].groupby("person")["identified"].agg(["median", "min", "max"])
by_person["nobody holds the person"] = last[last["setting"] == "nobody holds the person"].set_index("person")["identified"]
by_person.loc[list(faces.REPORTED)].round(2)
""")
md("""
TABLE2

**The other direction.** Could the fakes replace photographs, when a classifier learns the person? The **probe** and **TSTR** (notebook 03) are measured on four held-out photographs of a person, so each of their values is a matter of single photographs. The mean over ten people says more. Its uncertainty: the ten are drawn with replacement, 2,000 times, and 95 of 100 means lie in the interval.
""")
code("""
def mean_over_people(name, column):
    values = last[last["setting"] == name].groupby("person")[column].mean().to_numpy()
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


names = ["attack", "nobody holds the person", "noise", "real images"]
pd.DataFrame({column: {name: mean_over_people(name, column) for name in names} for column in ("probe", "tstr")})
""")
md("""
TABLE3

**Claim.** CLAIM1
""")
code("""
medians = last.groupby(["setting", "person"])["identified"].median()
assert medians["attack"].median() >= 0.8
assert medians["nobody holds the person"].median() <= 0.1
print("claim holds: a network that has never seen these fakes recognises the person in most of them")
""")
md("""
## 4. The class, or a photograph?

With six photographs, a class is nearly a training set. Does the generator draw the person, or copies of six photographs? Here are fakes, and below each of them the photograph that is nearest, among all ten of the person (brightness and contrast are taken out first):
""")
code(
    """
def with_nearest(name):
    fakes = records[train.label_of(name)].samples[-1][:10]
    photographs = np.concatenate([to_uint8(part.images_of(name)) for part in faces.people()])
    flat = [(one - one.mean((1, 2), keepdims=True)).reshape(len(one), -1) for one in (fakes, photographs)]
    fake, photograph = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in flat)
    nearest = (fake @ photograph.T).argmax(1)
    print(f"{name}: {(nearest < 6).sum()} of 10 nearest ones were in the federation")
    return {f"fakes of {name}": fakes, f"private, nearest to them {name}": photographs[nearest]}


plot_strips(with_nearest("s10") | with_nearest("s25"))
""",
    alt="ALT3",
)
md("""
Photographs of one person are alike, so nearness alone says little. We compare. Let $a$ be the mean distance from a fake to the nearest of four photographs of the federation (the mean over all choices of four of the six), and $b$ that to the nearest of the four held-out ones. If single photographs were copied, $a/b$ would be below 1. By how much may it be so by chance? We deal the ten photographs out anew, six and four, in all 210 ways, as if others had been held out. The **share** is that of the deals whose ratio is as small as the true one, or smaller. Without copying, any share is as likely as any other. The positive control is a generator that has learned the six by heart.
""")
code("""
summary("attack", "nobody holds the person", "learned by heart", columns=("copy_ratio", "copy_share"))
""")
md("""
TABLE4
""")
md("""
## 5. At the paper's size, and in its federation

LARGE
""")
code(
    """
sizes = {f"{name}, fakes": one.samples[-1] for name, one in ((r.target_name, r) for r in runs["64 x 64"].values())}
plot_strips(sizes, columns=8, size=1.1)
""",
    alt="ALT4",
)
md("""
CROWD
""")
md("""
## 6. What protects a person?

PROTECT
""")
code(
    """
pictures = np.load("runs/faces.npz")
protected = ["attack", "DP-SGD, epsilon 8", "4 honest", "4 honest, median", "nobody holds the person"]
plot_strips({f"{name}, s10": pictures[f"{name}, s10"] for name in protected}, columns=8)
""",
    alt="ALT5",
)
code("""
summary(*protected, columns=("identified", "median_rank", "accuracy"), people=faces.CLOSER)
""")
md("""
PROTECT2
""")
md("""
## 7. Inversion, and the oracle

INVERSION
""")
code(
    """
plot_strips({f"{name}, s10": pictures[f"{name}, s10"] for name in ("inversion", "attack", "oracle")}, columns=8)
""",
    alt="ALT6",
)
code("""
summary("inversion", "attack", "oracle", people=faces.LARGE)
""")
md("""
INVERSION2
""")
md("""
## 8. Your own images

Give the name of a folder in the cell of parameters (`data = "../my_photos"`), with a sub-folder for each class and at least five images in each, and the name of a class as `person`. All cells of sections 2 and 3 then work on your images. The recorded runs stay those of the forty people.

Drawings work as well. In [notebook 04](04_visual_comparison.ipynb) keep the pad in a variable, `pad = draw_secret()`, draw, and save what you drew with `np.savez("../out/secret.npz", drawings=pad.pictures)`. Here set `data = "../out/secret.npz"` and `person = "secret"`. The attacker then has digits, and not a single drawing.
""")
md("""
## What this does not show

LIMITS

## Recap

RECAP
""")
md("""
## Quiz

Choose an answer, then open it.

QUIZ
""")
md("""
## Exercises

Complete a cell, run it, and then run the check below it. The [solutions](solutions/08_a_class_is_a_person.ipynb) are in a notebook of their own.
""")
md("""
## References

- B. Hitaj, G. Ateniese, F. Perez-Cruz: *Deep Models Under the GAN*, CCS 2017, [arXiv 1702.07464](https://arxiv.org/abs/1702.07464).
- F. Samaria, A. Harter: *Parameterisation of a Stochastic Model for Human Face Identification*, IEEE Workshop on Applications of Computer Vision, 1994. The photographs: AT&T Laboratories Cambridge.
- M. Fredrikson, S. Jha, T. Ristenpart: *Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures*, CCS 2015.
- C. Olah, A. Mordvintsev, L. Schubert: *Feature Visualization*, Distill 2017 (why moving a picture helps). T. Karras, S. Laine, T. Aila: *A Style-Based Generator Architecture for GANs*, CVPR 2019, [arXiv 1812.04948](https://arxiv.org/abs/1812.04948) (blur after upsampling).
- D. Hendrycks, M. Mazeika, T. Dietterich: *Deep Anomaly Detection with Outlier Exposure*, ICLR 2019, [arXiv 1812.04606](https://arxiv.org/abs/1812.04606) (the answer *nobody*).
""")
