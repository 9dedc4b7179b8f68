md("""
# 08 · A class is a person

**What you will learn**

- what the attack does when a class is one person: the attacker draws somebody of whom it has no photograph;
- how to measure a likeness: does another network recognise the person?
- how to test whether single photographs were copied;
- what helps this victim, and what does not.

**You need** [03 · The GAN attack](03_gan_attack.ipynb), and [06 · Defences](06_defences.ipynb) for section 6.

**Run time**: <<RUNTIME>>. The other runs are recorded, and `make faces` repeats them (<<FACES>>). **Previous**: [07 · Beyond one machine](07_beyond_one_machine.ipynb).
""")
code(
    """
person = "s10"  # whom the attacker wants to see: the name of a class
data = ""  # your own images instead: a folder with a sub-folder for each class, or a file of drawings
rounds = 300
seed = 0
identifier_steps = 500  # of training; fewer are faster, and less reliable
output = "../out"  # where the record goes
""",
    tags=["parameters"],
)
code("""
import ipywidgets
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
from fl_gan_lib.studies.identification import HELD_OUT, people, ranks, train_identifier
""")
code("""
enter_notebooks()  # the paths below are relative to notebooks/
if data.endswith(".npz"):
    train, held_out = drawings(np.load(data)["drawings"])
elif data:
    train, held_out = ImageDataset.from_folder(data, side=32).split(HELD_OUT)
else:
    train, held_out = people()
print(f"{len(train)} images for the federation, {len(held_out)} held out, {len(train.classes)} classes")
""")
md("""
## 1. Why digits are not the point

A 3 belongs to nobody. In other federations a class can be a person: the owner of a phone, a patient, an employee. Then "what the class looks like" is that person's face.

**The photographs** come from AT&T Laboratories Cambridge, taken from 1992 to 1994 (Samaria and Harter 1994): 40 people, called s1 to s40, with ten grey photographs each. The paper used them for its second experiment, and many others have used them since. They have no open licence, and nobody asked these people about an attack that did not exist yet. So this notebook shows few photographs, only where an argument needs them, and gives no names. Please do not pass them on. For experiments of your own, use images of people who have agreed, or drawings (section 8).

**Who holds what.** Six photographs of each person go into the federation. The victim holds all six of the target and three of each other person. The attacker holds the other three, and none of the target. The remaining four photographs of each person are held out for section 3. No photograph is in both parts.
""")
md("""
## 2. The attack on one person

The attack is that of notebook 03, at 32 x 32. But a digit had 400 images, and a person has six. So this attacker does four things more, all of them at home:

1. **It begins with faces.** It has photographs of 39 other people. Before the first round, its generator learns to draw those, as an ordinary GAN.
2. **It varies its fakes.** It flips, turns, moves and scales each of them a little before the received model judges it. The honest client varies its photographs in the same way, because it has few. Otherwise the model would soon know the photographs by heart, and its verdict on a fake would say nothing (Zhao et al. 2020, Karras et al. 2020).
3. **It injects as many fakes as it has images.** The victim then has to work harder to tell its few photographs from fakes.
4. **It blurs a little.** Transposed convolutions leave a grid of dots. A blur after each of them removes it.

In notebook 06, augmentation did not protect the victim. Here it helps the attacker.

First, ten recorded attacks. The settings and the number of rounds were chosen on five *other* people.
""")
code(
    """
runs = load_runs("runs/faces")
records = runs.pop("attack")
gap = np.full((1, 32, 32), 255, np.uint8)
rows = {one.target_name: np.concatenate([one.private_samples[:3], gap, one.samples[-1]]) for one in records.values()}
plot_strips(rows, columns=12, title="three private photographs, and eight fakes of the last round")
""",
    alt="<<ALT1>>",
)
md("""
*Look at* <<LOOK1>>

The explorer has these attacks round by round:
""")
code(
    """
attack_explorer(records, beside=runs)
""",
    tags=["nbval-ignore-output"],
)
md("""
Now run one yourself. Pick a person, and run the cell below it. (You can stop it: the same cell goes on where it was.)
""")
code(
    """
picker = ipywidgets.Dropdown(options=train.classes, value=person, description="person")
picker
""",
    tags=["nbval-ignore-output", "remove-output"],
)
code(
    """
person = picker.value
path = record_path(output, person, "likeness")
record = run_attack(person, dataset=(train, held_out), rounds=rounds, seed=seed, path=path, **faces.FEDERATION)
""",
    tags=["nbval-ignore-output"],
)
code(
    """
shown = np.unique(np.linspace(0, len(record.rounds) - 1, 6).round().astype(int))
strips = {"private photographs": to_uint8(train.images_of(person))}
strips |= {f"fakes, round {record.rounds[row]}": record.samples[row] for row in shown}
plot_strips(strips, columns=6, size=0.9)
""",
    tags=["nbval-ignore-output"],
    alt="<<ALT2>>",
)
md("""
*Look at* <<LOOK2>>
""")
md("""
## 3. Is it the person?

You have looked. To put a number on a likeness, we ask somebody else: an **identifier**, a network of another kind. It has learned the forty people from the four photographs of each that the federation never saw. For each fake, it ranks the forty people and one more answer, *nobody*. It has learned to answer *nobody* to plain greys, noise, soft blobs, and photographs cut into 16 squares and shuffled. Without that answer it would have to name somebody: our first one took plain white for s1, with full confidence, and noise for s31. And on fakes, two identifiers with other random seeds can disagree. So three answer together, by the mean of their log-probabilities.

**Identification** is the share of fakes for which the person ranks first. A guess would be right for 1 in 40, or 0.025.
""")
code(
    """
identifiers = [train_identifier(held_out, seed=number, steps=identifier_steps) for number in range(3)]
right = [ranks(identifiers, train.images_of(name), train.label_of(name)) == 1 for name in train.classes]
print(f"{np.concatenate(right).mean():.3f} of the federation's own photographs are named right")
found = ranks(identifiers, from_uint8(record.final_samples), train.label_of(person))
print(f"{(found == 1).mean():.3f} of the fakes are named {person}; the median rank is {np.median(found):.0f}")
""",
    tags=["nbval-ignore-output"],
)
md("""
The recorded runs: ten people, three seeds. As a control, *nobody holds the person* is a federation whose victim keeps its six photographs to itself. What the attacker draws there comes from the other 39 people (one seed). *Real images* are the victim's six photographs. The table has medians and, in brackets, the lowest and the highest value.
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
<<TABLE1>>
""")
code("""
attacked = last[last["setting"] == "attack"].groupby("person")["identified"]
by_person = attacked.agg(["median", "min", "max"])
by_person["nobody holds"] = last[last["setting"] == "nobody holds the person"].set_index("person")["identified"]
by_person.loc[list(faces.REPORTED)].round(2)
""")
md("""
<<TABLE2>>

**The other direction.** Could the fakes replace photographs when a classifier learns the person? The **probe** and **TSTR** (notebook 03) are measured on the four held-out photographs of a person. So a single value says little, and we take the mean over the ten people. Its uncertainty is a bootstrap interval: draw ten people with replacement, 2,000 times. Then 95 % of the means lie in the interval.
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
<<TABLE3>>

**Claim.** <<CLAIM1>>
""")
code("""
by_setting = last.groupby(["setting", "person"])["identified"].median()
assert by_setting["attack"].median() >= 0.8
assert by_setting["nobody holds the person"].median() <= 0.1
print("claim holds: networks that have never seen these fakes recognise the person in most of them")
""")
md("""
## 4. The class, or a photograph?

Six photographs of a person are nearly a training set. Does the generator draw the person, or does it copy six photographs? Here are fakes, and below each the nearest of the person's ten photographs. (Brightness and contrast are taken out before the comparison.)
""")
code(
    """
def with_nearest(name):
    fakes = records[train.label_of(name)].samples[-1][:10]
    photographs = np.concatenate([to_uint8(part.images_of(name)) for part in people()])
    flat = [(one - one.mean((1, 2), keepdims=True)).reshape(len(one), -1) for one in (fakes, photographs)]
    fake, photograph = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in flat)
    nearest = (fake @ photograph.T).argmax(1)
    print(f"{name}: for {(nearest < 6).sum()} of 10 fakes the nearest photograph was in the federation")
    return {f"fakes of {name}": fakes, f"private, nearest to them ({name})": photographs[nearest]}


plot_strips(with_nearest("s10") | with_nearest("s25"))
""",
    alt="<<ALT3>>",
)
md("""
Photographs of one person are alike, so nearness alone proves no copying. The **copy ratio** of notebook 03 compares two distances: that from a fake to the nearest photograph *in* the federation, and that to the nearest *held-out* one. (To be fair, it takes four of the six in the federation at a time, in all ways, and averages.) If photographs were copied, it would be below 1.

How far below 1 can it get by chance? We deal the ten photographs out anew, six and four, in all 210 ways, as if others had been held out, and compute the ratio for each deal. The **copy share** is the share of deals whose ratio is at most the true one. Without copying, all shares are equally likely. This is a *permutation test*. The positive control is a generator that has learned the six photographs by heart.
""")
code("""
summary("attack", "nobody holds the person", "learned by heart", columns=("copy_ratio", "copy_share"))
""")
md("""
<<TABLE4>>
""")
md("""
## 5. At the paper's size, and in its federation

<<LARGE>>
""")
code(
    """
sizes = {f"{one.target_name}, fakes": one.samples[-1] for one in runs["64 x 64"].values()}
plot_strips(sizes, columns=8, size=1.1)
""",
    alt="<<ALT4>>",
)
md("""
<<CROWD>>
""")
md("""
## 6. What protects a person?

In notebook 06, three measures hid something: not teaching the class, DP-SGD by the victim, and a median at the server. Here they are on two people, s10 and s25 (one seed). A median needs several participants who hold the person. With six photographs, four is the most, so *4 honest* is the same federation of five without the median. DP-SGD has an $\\varepsilon$ of 8 for each photograph.
""")
code(
    """
pictures = np.load("runs/faces.npz")
protected = ["attack", "DP-SGD, epsilon 8", "4 honest", "4 honest, median", "nobody holds the person"]
plot_strips({f"{name}, s10": pictures[f"{name}, s10"] for name in protected}, columns=8)
""",
    alt="<<ALT5>>",
)
code("""
summary(*protected, columns=("identified", "median_rank", "accuracy"), people=faces.CLOSER)
""")
md("""
<<PROTECT2>>
""")
md("""
## 7. Inversion, and the oracle

Fredrikson et al. (2015) drew faces out of a model that knew these same photographs. Their attack needs no federation. It looks for pixels that the finished model takes for the person, by gradient ascent. Here it is on the model of an honest federation, without the smoothing of the paper.

At the other end is the **oracle**: the GAN of notebook 03, trained by somebody who has the six photographs. It does without the four additions of section 2.
""")
code(
    """
plot_strips({f"{name}, s10": pictures[f"{name}, s10"] for name in ("inversion", "attack", "oracle")}, columns=8)
""",
    alt="<<ALT6>>",
)
code("""
summary("inversion", "attack", "oracle", people=faces.LARGE)
""")
md("""
<<INVERSION2>>
""")
md("""
## 8. Your own images

In the cell of parameters, give the name of a folder (`data = "../my_photos"`) with a sub-folder for each class and at least five images in each, and the name of a class as `person`. The cells of sections 2 and 3 then work on your images. Only the recorded runs stay those of the forty people.

Drawings work as well. In [notebook 04](04_visual_comparison.ipynb), keep the pad in a variable (`pad = draw_secret()`), draw, and save what you drew with `np.savez("../out/secret.npz", drawings=pad.pictures)`. Here, set `data = "../out/secret.npz"` and `person = "secret"`. The attacker then has digits, and not a single drawing.
""")
md("""
## What this does not show

- One data set: forty people in front of one camera, upright, in even light, grey and small. Photographs from a phone differ much more.
- The attacker holds photographs of the other 39 people by the same camera, and begins with them.
- There is one honest participant, but in section 6. What a crowd of many changes is not shown.
- The recipe was chosen on five people of the same data set. The ten are other people, but not another camera.
- The probe, TSTR and the copy share rest on four held-out photographs of each person.
- Identifiers are networks. Nobody who knows these people was asked.

## Recap

- Where a class is a person, the attack draws that person, for an attacker who holds only photographs of others.
- Identification needs networks that have learned from other photographs, an answer *nobody*, and a federation in which nobody holds the person.
- <<COPYRECAP>>
- <<PROTECTRECAP>>
""")
md("""
## Quiz

Choose an answer, then open it.

**1.** An attack collapses, and all its fakes are plain white. An identifier without the answer *nobody* calls every one of them s1. What does an identification of 1.00 mean here?

<details><summary>The attack on s1 has succeeded</summary>

Wrong. The identifier had to name somebody. Look at the pictures as well, and let it answer *nobody*.
</details>

<details><summary>Nothing</summary>

Right. A number about fakes needs anchors. What does it say about noise, and about plain white?
</details>

**2.** Identification is 0.98. Would you recognise the person in the street, from the fakes alone?

<details><summary>Yes, with 98 % certainty</summary>

Wrong. The number says that networks pick the right one of forty. Hair, forehead and light are often enough for that.
</details>

<details><summary>Not necessarily</summary>

Right. The fakes lack sharp eyes and mouths. But somebody who has a list of candidates, with photographs, can pick the right one. That is harm enough.
</details>

**3.** For one of ten people, the copy share is 0.03. Has the generator copied that person's photographs?

<details><summary>Yes, as 0.03 is below 0.05</summary>

Wrong. Without any copying, each of ten people has a chance of 3 % for such a share. So it is no surprise that one has it.
</details>

<details><summary>This alone does not tell</summary>

Right. Look at all ten shares, at other seeds, and at the pictures.
</details>

**4.** The victim in *nobody holds the person* trains on all its photographs but those of the person. Why run this control?

<details><summary>To see what the model, the attacker's own photographs and the identifiers give away without the person</summary>

Right. Only what goes beyond it can come from the person's photographs.
</details>

<details><summary>To see whether the attacker cheats</summary>

Wrong. The attacker does the same as before. What changes is that nobody teaches the model what the person looks like.
</details>
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
- S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han: *Differentiable Augmentation for Data-Efficient GAN Training*, NeurIPS 2020, [arXiv 2006.10738](https://arxiv.org/abs/2006.10738); T. Karras et al.: *Training Generative Adversarial Networks with Limited Data*, NeurIPS 2020, [arXiv 2006.06676](https://arxiv.org/abs/2006.06676).
- T. Karras, S. Laine, T. Aila: *A Style-Based Generator Architecture for GANs*, CVPR 2019, [arXiv 1812.04948](https://arxiv.org/abs/1812.04948) (blur after upsampling).
- D. Hendrycks, M. Mazeika, T. Dietterich: *Deep Anomaly Detection with Outlier Exposure*, ICLR 2019, [arXiv 1812.04606](https://arxiv.org/abs/1812.04606) (the answer *nobody*).
""")
