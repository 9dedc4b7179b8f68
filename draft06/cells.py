"""The cells of notebook 06: (kind, id, source[, alt]). «expression» is filled in from the runs."""
CELLS = []
def md(id, text): CELLS.append(("markdown", id, text.strip("\n"), None))
def code(id, text, alt=None, tags=()): CELLS.append(("code", id, text.strip("\n"), (alt, tags)))

md("title", r"""
# 06 · Defences, measured

**What you will learn**

- which defences hide what a class looks like, what they cost, and what an attacker does that knows them;
- what differential privacy promises, for each image and for each participant;
- how a server can find this attacker.

**You need** [03 · The GAN attack](03_gan_attack.ipynb), and [05 · Anatomy of the attack](05_anatomy_of_the_attack.ipynb) for the crowds.

**Run time**: about half a minute. This notebook opens the results of «num_runs» recorded runs. `recompute = True` in the next cell, or `make defences`, repeats them (some eight hours on two CPU cores; if interrupted, it resumes). **Previous**: [05](05_anatomy_of_the_attack.ipynb). **Next**: [07 · Beyond one machine](07_beyond_one_machine.ipynb).
""")

code("parameters", """
recompute = False  # True: run all the experiments again
num_seeds = 3
other_digit = 9  # attacked beside the 3; None: the 3 alone
rounds = None  # None: what each setting says; a number: all settings, for a quick look
output = "../out"  # where the results go, if they are computed again
""", tags=["parameters"])

code("imports", """
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from fl_gan_lib.attack import build_federation
from fl_gan_lib.data import load_dataset
from fl_gan_lib.defences import PrivateClient, PrivateMean, coordinate_median, spent_epsilon
from fl_gan_lib.federation import Update, federate
from fl_gan_lib.figures import plot_strips
from fl_gan_lib.lessons import check
from fl_gan_lib.notebooks import enter_notebooks
from fl_gan_lib.studies import defences, detection
from fl_gan_lib.studies.figures import plot_defences, plot_standing_out
from fl_gan_lib.studies.jobs import compare
""")

code("recompute", """
enter_notebooks()
folder = output if recompute else "runs"
digits = [3] if other_digit is None else [3, other_digit]
full_size = rounds is None and num_seeds >= 3 and other_digit == 9  # where the margins of the claims were measured
if recompute:
    options = {"digits": digits, "seeds": range(num_seeds), "rounds": rounds}
    more = defences.FURTHER_RUNS if full_size else ()  # controls among them
    kept = {"recorded": defences.RECORDED, "more": more, "path": f"{folder}/defences.csv"}
    compare(defences.SETTINGS, "defence", list(defences.DEFENCES), **kept, **options)
    compare(detection.ATTACKERS, "attacker", path=f"{folder}/detection.csv", **options)
""")

code("table", """
table = pd.read_csv(f"{folder}/defences.csv").query("digit in @digits")
pictures = np.load(f"{folder}/defences.npz")
last = table.groupby(["defence", "digit", "seed"]).tail(1)
detected = pd.read_csv(f"{folder}/detection.csv")
anchors = pd.read_csv("runs/seeds.csv").query("digit in @digits and kind in ['noise', 'real images']")
print(f"{last['defence'].nunique()} settings, {len(last)} runs")
print(f"{detected['attacker'].nunique()} attackers that the server inspects")
""")

md("reading", r"""
## How to read what follows

*Who* can act, what does it *cost*, and what still *leaks*?

| who | sees | can change |
| --- | --- | --- |
| the victim | its images, the global model | what it trains on, how, and what it sends |
| all participants together | | the protocol: how much is sent, in how many rounds |
| the server | every single update | how updates become one model |
| the attacker | its images, the global model | what it trains on, how, and what it sends |

**Cost** is the accuracy of the finished model on the *target*, which only honest participants can teach. (Accuracy on all digits hides most of it.) **Leakage** has two numbers, as in notebook 03: **TSTR** says whether the fakes could replace real images, and the **probe** what they tell. One classifier judges a run, so differences in TSTR below about 0.04 mean little. **Recognition** shows whether other digits are among the fakes.

Tables have a row for each digit: the median of the seeds, and in brackets the lowest and the highest. Rows of fakes are of digit 3, seed 0. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:
""")

code("functions", """
COLUMNS = ["tstr", "probe", "recognition", "target_accuracy", "accuracy"]
pd.set_option("display.max_colwidth", None)


def spread(runs):
    return "-" if runs.isna().all() else f"{runs.median():.2f} ({runs.min():.2f} to {runs.max():.2f})"


def summary(*names):
    chosen = last[last["defence"].isin(names)]
    rows = chosen.groupby(["defence", "digit"])[COLUMNS].agg(spread)
    return rows.reindex([row for name in names for row in rows.index if row[0] == name])


def runs_of(name, column="tstr"):
    return last[last["defence"] == name].set_index(["digit", "seed"])[column].sort_index()
""")

code("anchors", """
levels = anchors.groupby(["kind", "digit"])[["tstr", "probe"]].agg(spread)
held_back = summary("class held back")[["tstr", "probe"]].rename_axis(index=["kind", "digit"])
pd.concat([levels.loc[["noise"]], held_back, levels.loc[["real images"]]])
""")

md("anchors-look", r"""
With the *class held back*, nobody shows the model the target. What these fakes tell, the other nine digits tell. Only what goes beyond it leaks.
""")

code("strips", """
def apart(one, other, column="tstr"):
    \"\"\"By digit and seed: how much higher it is for one than for the other.\"\"\"
    return (runs_of(one, column) - runs_of(other, column)).dropna()


def strips(*names):
    medians = last[last["digit"] == 3].groupby("defence")[["tstr", "probe"]].median()
    labels = {name: f"{name}\\nTSTR {medians['tstr'][name]:.2f}, probe {medians['probe'][name]:.2f}" for name in names}
    return plot_strips({labels[name]: pictures[name] for name in names}, columns=6)
""")

# ---------------------------------------------------------------- 1
md("dpsgd", r"""
## 1. Differential privacy for each image: DP-SGD

**The idea.** Bound what a single image can do to the training, and hide it in noise. **Who**: the victim, alone. In each step it takes every image with probability $q$ (a Poisson sample $B$), clips the gradient $g_i$ of each image to the norm $C$, and adds Gaussian noise to the sum (Abadi et al. 2016):

$$\tilde g = \frac{1}{q N} \Big( \sum_{i \in B} g_i \min\big(1, \tfrac{C}{\lVert g_i \rVert}\big) + \mathcal N(0, z^2 C^2 I) \Big)$$

**What is promised.** Take two data sets that differ in one image. Training is $(\varepsilon, \delta)$-*differentially private* if no outcome is more than $e^\varepsilon$ times as likely with one as with the other, except with probability $\delta$. A small $\varepsilon$ is a strong promise. $\delta$ must lie below one over the number of images: publishing one image picked at random would satisfy a larger one. An *accountant* adds up what all steps spend. Opacus has two, by Rényi differential privacy (RDP) and a tighter numerical one (PRV). Here $\delta = 10^{-4}$ and $C = 1$.
""")

code("dpsgd-budgets", """
train, _ = load_dataset()
_, (victim, _) = build_federation(train, 3)
for epsilon in (50, 8, 3, 1):
    private = PrivateClient(victim.dataset, epsilon=epsilon, num_rounds=100)
    z, rate, delta = private.noise_multiplier, private.sample_rate, private.delta
    rdp, prv = (
        spent_epsilon(z, sample_rate=rate, steps=400, delta=delta, accountant=name) for name in ("rdp", "prv")
    )
    print(f"epsilon {epsilon:>2}: noise multiplier z = {z:.2f}; all rounds spend {rdp:.2f} (RDP), {prv:.2f} (PRV)")
""")

code("dpsgd-strips", """
budgets = ["none", "DP-SGD, clipping alone"] + [f"DP-SGD, epsilon {epsilon}" for epsilon in (50, 8, 3, 1)]
strips(*budgets)
""", alt="Rows of fakes of the digit 3: readable without a defence, with clipping alone and at epsilon 50; at 8 and below more and more other digits among them.")

code("dpsgd-table", "summary(*budgets)")

md("dpsgd-look", r"""
*Look at* the columns one by one. Clipping alone changes nothing. With noise, **target accuracy** falls: at $\varepsilon = 8$ it is «m('DP-SGD, epsilon 8','ta',3)» on the 3 and «m('DP-SGD, epsilon 8','ta',9)» on the 9, and at 1 the model knows no image of the target. **Recognition** falls, too: more and more fakes are other digits. **TSTR does not fall steadily**. On the 3, it is «m('DP-SGD, epsilon 50','t',3)» at $\varepsilon = 50$, «m('DP-SGD, epsilon 8','t',3)» at 8 and «m('DP-SGD, epsilon 1','t',3)» at 1. A classifier learns from a few good fakes among many wrong ones, as in notebook 05. What is left at $\varepsilon = 1$ is leakage (probe «m('DP-SGD, epsilon 1','p',3)» ; class held back: «m('class held back','p',3)»).

**An attacker that knows** of the noise can average the models that it receives, take more or fewer generator steps, or call half of its fakes the target, so that the model does not unlearn it:
""")

code("dpsgd-adapted", """
def adapted_to(name):
    return [f"{name}, {does}" for does in defences.ADAPTED.get(name, ())]


summary("DP-SGD, epsilon 8", *adapted_to("DP-SGD, epsilon 8"))
""")

md("dpsgd-claim", r"""
*Look at* TSTR. None of the four is clearly better than the attacker that knows nothing.

**Claim.** With clipping alone, TSTR is above 0.85 in every run. At $\varepsilon = 8$ target accuracy is above 0.6, and at 1 below 0.1. At both, the probe is higher than with the class held back, seed by seed.
""")

code("dpsgd-check", """
if full_size:
    assert runs_of("DP-SGD, clipping alone").min() > 0.85
    assert runs_of("DP-SGD, epsilon 8", "target_accuracy").min() > 0.6
    for name in ("DP-SGD, epsilon 8", "DP-SGD, epsilon 1"):
        assert apart(name, "class held back", "probe").min() > 0
    assert runs_of("DP-SGD, epsilon 1", "target_accuracy").max() < 0.1
    print("claim holds: this noise ruins the class in the model before it hides what the class looks like")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

md("dpsgd-remember", r"""
**To remember**: record-level privacy is a promise about one image. The attack is after what all images of a class share. (The page [Defences](pages/defences.md) discusses the paper's own budgets.)
""")

# ---------------------------------------------------------------- 2
md("user", r"""
## 2. Differential privacy for each participant

**The idea.** The model should hardly depend on whether the victim takes part *at all*. **Who**: the server, or each client before it sends. The server clips the change $\Delta_k$ of each of $n$ clients to the norm $S$, and adds noise to their mean (McMahan et al. 2018):

$$w \leftarrow w + \frac1n \Big( \sum_{k=1}^{n} \Delta_k \min\big(1, \tfrac{S}{\lVert \Delta_k \rVert}\big) + \mathcal N(0, z^2 S^2 I) \Big)$$

All clients count alike here, whatever number of examples they report. On the mean the noise has the standard deviation $z S / n$. By hand, without noise:
""")

code("user-by-hand", """
state = {"w": torch.tensor([1.0, 1.0])}
updates = [Update({"w": torch.tensor([1.3, 1.4])}, 10), Update({"w": torch.tensor([1.0, 3.0])}, 10)]
changes = [update.state["w"] - state["w"] for update in updates]  # norms 0.5 and 2
clipped = [change * min(1, 1 / change.norm()) for change in changes]
by_hand = state["w"] + sum(clipped) / len(clipped)
assert torch.allclose(by_hand, PrivateMean(max_norm=1.0, noise_multiplier=0)(updates, state)["w"])
print(by_hand)
""")

md("user-accounting", r"""
How much noise is which $\varepsilon$? Everybody takes part in all 60 rounds, and $\delta = n^{-1.1}$, which is below $1/n$:
""")

code("user-budgets", """
for n in (2, 10, 41):
    for z in (1, 3.5):
        rdp, prv = (
            spent_epsilon(z, sample_rate=1, steps=60, delta=n**-1.1, accountant=name) for name in ("rdp", "prv")
        )
        noise = z * 0.5 / n
        print(f"{n:>2} participants, z = {z}: noise {noise:.3f} on the mean; epsilon {rdp:.1f} (RDP), {prv:.1f} (PRV)")
""")

md("user-neighbours", r"""
Below, $z = 1$ and $S = 0.5$; an honest change has a norm of about 0.56. The promise compares a federation with one in which a participant's change is zero. Clients that trust nobody each add the whole noise to their own message, and then the mean has $\sqrt n$ times the noise. Their promise compares a message with one of zero. (Two messages can lie $2S$ apart. Between those, the same noise promises less.)
""")

code("user-strips", """
noises = ("", ", noise at the server", ", noise at the clients")
crowds = [f"{number} honest{noise}" for number in (1, 9, 40) for noise in noises]
strips(crowds[1], crowds[4], crowds[6], crowds[7])
""", alt="Rows of fakes of the digit 3 with noise at the server: noise alone with one and nine honest participants; with forty, blurred 3s with and without it.")

code("user-table", "summary(*crowds)")

md("user-look", r"""
*Look at* the last two columns. With this noise at the server, one honest participant and nine learn little or nothing. Where nothing is learned, nothing leaks. Forty still learn (target accuracy «m('40 honest, noise at the server','ta',3)» and «m('40 honest, noise at the server','ta',9)»). But among forty the attack is slow even without noise.

**What does the work?** The server clips the attacker as well as honest clients. These runs take the parts one by one (nine honest participants, digit 3):
""")

code("user-controls", """
parts = [name for name in defences.CONTROLS if name.startswith("9 honest")]
summary("9 honest", *parts)
""")

md("user-controls-look", r"""
*Look at* TSTR. Clipping at 0.5 without any noise lowers it from «m('9 honest','t',3)» to «m('9 honest, clipping at the server','t',3)». If the attacker alone is clipped, it is «m('9 honest, attacker alone clipped','t',3)»; if all others are, «m('9 honest, honest alone clipped','t',3)». So the attacker's clip counts: its injected updates are longer than honest ones. A quarter of the noise, which leaves the model useful, adds little («m('9 honest, a quarter of the noise','t',3)»). A tighter clip of 0.2 leaves «m('9 honest, clipping at 0.2','t',3)» after 60 rounds, at a target accuracy of «m('9 honest, clipping at 0.2','ta',3)» («m('9 honest','ta',3)» without). An attacker that injects nine times as many fakes gets «m('9 honest, clipping at 0.2, injects nine times as many','t',3)».

**Claim.** With this noise at the server, target accuracy is below 0.6 with one and nine honest participants. The clip on the attacker alone lowers TSTR by more than 0.2 for every seed, and the clip on all honest ones does not.
""")

code("user-check", """
if full_size:
    for number in (1, 9):
        assert runs_of(f"{number} honest, noise at the server", "target_accuracy").max() < 0.6
    assert apart("9 honest, attacker alone clipped", "9 honest").max() < -0.2
    assert apart("9 honest, honest alone clipped", "9 honest").min() > -0.2
    print("claim holds: the noise ruins small federations, and the clip slows an attacker that injects much")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

md("user-remember", r"""
**To remember**: noise that hides a participant needs a crowd. And it does not hide what many participants share.

## 3. Secure aggregation

**The idea.** Each pair of clients agrees on a random mask. One adds it, the other subtracts it, and in the sum the masks cancel (Bonawitz et al. 2017). **Who**: all clients together. With $u_k$ the update of client $k$ in fixed-point numbers, and everything modulo $2^{64}$:

$$y_k = u_k + \sum_{j > k} m_{kj} - \sum_{j < k} m_{jk}, \qquad \sum_k y_k = \sum_k u_k$$
""")

code("secure", """
def secure_mean(updates, state, masked=True, seen=None):
    updates = list(updates)
    total = sum(update.num_examples for update in updates)
    sent = [{n: (w.double() * u.num_examples * 2**32).round().long() for n, w in u.state.items()} for u in updates]
    for one, two in combinations(sent, 2):
        for name, whole in one.items():
            mask = torch.randint(-(2**63), 2**63 - 1, whole.shape) if masked else torch.zeros_like(whole)
            one[name], two[name] = one[name] + mask, two[name] - mask  # modulo 2^64
    seen.append(sent[0]["0.bias"].double() / 2**32 / total)
    return {name: (sum(each[name] for each in sent).double() / 2**32 / total).float() for name in state}
""")

md("secure-run", "Three rounds of the same attack with three honest clients, once with the masks and once without:")

code("secure-attacks", """
def attacked(masked):
    seen = []
    model, clients = build_federation(train, 3, num_rounds=100, num_honest=3, device="cpu")
    for _ in federate(model, clients, num_rounds=3, aggregate=partial(secure_mean, masked=masked, seen=seen)):
        pass
    latents = torch.randn(10, 100, generator=torch.Generator().manual_seed(0))
    return model.state_dict(), clients[-1].generator.render(latents), seen[0]


(hidden, hidden_fakes, masked_update), (plain, plain_fakes, plain_update) = attacked(True), attacked(False)
same = all(torch.equal(hidden[name], plain[name]) for name in plain)
print("the global model is the same to the last bit:", same)
print("so are the attacker's fakes:", np.array_equal(hidden_fakes, plain_fakes))
""")

code("secure-seen", """
print("three numbers of the first client, as the server sees them")
for name, seen in {"masked": masked_update, "plain": plain_update}.items():
    print(f"{name:>6}:", ", ".join(f"{number:.3g}" for number in seen[:3].tolist()))
""", tags=["nbval-ignore-output"])

md("secure-claim", r"""
*Look at* the last two lines. The server no longer sees a single update. The attacker sees what it saw before: it is a *participant*, and participants receive the average.

**Claim.** With the masks the global model is the same to the last bit, and so is every pixel that the attacker draws.
""")

code("secure-check", """
assert same and np.array_equal(hidden_fakes, plain_fakes)
assert not torch.equal(masked_update, plain_update)
print("claim holds: the masks hide the updates from the server, and nothing from the attacker")
""")

md("sharing", r"""
**To remember**: secure aggregation protects against the server, and this attacker is not the server.

## 4. Sharing less

**The idea.** What is not sent cannot leak. **Who**: all participants, as a rule of the protocol. They send only the largest tenth or hundredth of their changes. Or they send two bits a number, a sign or a zero, rounded at random so that the mean stays right (Alistarh et al. 2017). Or they stop after 20 rounds.

$$\text{top}_\theta(\Delta) \qquad\text{or}\qquad Q(\Delta_j) = s \cdot \operatorname{sign}(\Delta_j) \cdot b_j, \quad b_j \in \{0, 1\}, \quad P(b_j = 1) = \frac{|\Delta_j|}{s}, \quad s = \max_j |\Delta_j|$$

With *error feedback*, as is usual, a client adds what it held back to its next change. A victim can also leave after 20 of 100 rounds, and keep its own model.
""")

code("sharing-strips", """
shares = ["none", "2 bits a number", "10 % of each update", "1 % of each update", "1 %, with error feedback"]
shares += ["20 rounds", "leaves after 20 of 100 rounds"]
strips("none", *shares[3:])
""", alt="Rows of fakes of the digit 3 when less is shared: only a hundredth of each update, without error feedback, leaves blurred pictures that are all alike.")

code("sharing-table", "summary(*shares)")

md("sharing-look", r"""
*Look at* target accuracy beside TSTR. **Two bits** cost the attacker nothing. (They are a sixteenth of the uploads; whole models still come down, so about half of the traffic remains.) A **tenth** is no defence either. A **hundredth** leaves little that could replace an image (TSTR «m('1 % of each update','t',3)» and «m('1 % of each update','t',9)») and much that tells (probe «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)»), and costs about a tenth of target accuracy. Error feedback gives that back, and the attack as well. **Twenty rounds** cost the 3 little of its leak («m('20 rounds','t',3)») and the 9 most of it («m('20 rounds','t',9)»). A victim that leaves at that time has given away more.

**An attacker that knows** can break the rule and send its whole update. In a short federation it can take more generator steps in each round, or act as if it had a hundred rounds, and inject to the end:
""")

code("sharing-adapted", """summary(*adapted_to("1 % of each update"), *adapted_to("20 rounds"))""")

md("sharing-claim", r"""
*Look at* the first two rows. A whole update prevails: TSTR is «m('1 % of each update, sends all of its own','t',3)» and «m('1 % of each update, sends all of its own','t',9)». It also wrecks target accuracy («m('1 % of each update, sends all of its own','ta',3)» and «m('1 % of each update, sends all of its own','ta',9)»), so it can be noticed. Twice as many generator steps bring twenty rounds to «m('20 rounds, takes twice as many steps','t',3)» and «m('20 rounds, takes twice as many steps','t',9)», unseen.

**Claim.** In every pair of runs, two bits leave TSTR within 0.05 of *none*. A hundredth lowers it by more than 0.5, and its probe stays above that of the class held back. With a whole update from the attacker, TSTR is above 0.6.
""")

code("sharing-check", """
if full_size:
    assert apart("2 bits a number", "none").abs().max() < 0.05
    assert apart("1 % of each update", "none").max() < -0.5
    assert apart("1 % of each update", "class held back", "probe").min() > 0
    assert runs_of("1 % of each update, sends all of its own").min() > 0.6
    print("claim holds: fewer bits are no defence, and a hundredth is one only if the attacker keeps to it")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

# ---------------------------------------------------------------- 5
md("robust", r"""
**To remember**: what the model still learns from, the attacker still learns from.

## 5. Robust aggregation

**The idea.** No single client may move the mean far. **Who**: the server. For each weight it takes the *median* of the clients' values, or a *trimmed mean* without the two largest and the two smallest (Yin et al. 2018). *Krum* takes the one update that lies nearest to its neighbours and drops all others (Blanchard et al. 2017):

$$\text{Krum} = \arg\min_{k} \sum_{j \in N(k)} \lVert \Delta_k - \Delta_j \rVert^2, \qquad N(k) = \text{the } n - f - 2 \text{ nearest of } k$$

for $f$ hostile clients. Here the attacker is one of ten, and three of the nine honest clients lack the target, too. A median, by hand:
""")

code("robust-by-hand", """
values = torch.tensor([[0.1], [0.2], [0.3], [9.0]])
by_hand = (0.2 + 0.3) / 2
library = coordinate_median(num_clients=4)([Update({"w": value}, 1) for value in values], {})["w"]
assert torch.allclose(library, torch.tensor([by_hand]))
print(f"mean {values.mean():.2f}, median {library.item():.2f}")
""")

code("robust-strips", """
robust = ["9 honest", "9 honest, median", "9 honest, trimmed mean", "9 honest, Krum"]
strips(*robust)
""", alt="Rows of fakes of the digit 3 among nine honest participants: readable with the mean, doubtful with median and trimmed mean, no 3 with Krum.")

code("robust-table", "summary(*robust)")

md("robust-look", r"""
*Look at* TSTR, and then at target accuracy. Median and trimmed mean cost the model nothing, and after 60 rounds they leave much less: on the 3, «m('9 honest, median','t',3)» and «m('9 honest, trimmed mean','t',3)», where the mean gives «m('9 honest','t',3)»; on the 9, nothing that could replace an image. The probe still finds a 3 («m('9 honest, median','p',3)»). Krum leaves nothing. Its model is worse, because it drops eight honest updates as well.

**An attacker that knows** can send a larger change, which uses all the room that a median leaves, or take more generator steps. Against Krum it can send a *small* change, or one that lies among those of honest clients:
""")

code("robust-adapted", """
rules = ("9 honest, median", "9 honest, trimmed mean", "9 honest, Krum")
summary(*(name for rule in rules for name in adapted_to(rule)))
""")

md("robust-claim", r"""
*Look at* the worst cases. Four times as many generator steps bring the median to «m('9 honest, median, takes four times as many steps','t',3)» on the 3 («m('9 honest, median, takes four times as many steps','t',9)» on the 9). A larger change gains little. Against Krum, small changes reach a probe of «h('9 honest, Krum, keeps its update small','p')» in one run and «lo('9 honest, Krum, keeps its update small','p')» in another.

**Claim.** Median and trimmed mean lower the accuracy by less than 0.01 in the median, and lower TSTR in every pair of runs. Krum lowers the accuracy by more than 0.03.
""")

code("robust-check", """
if full_size:
    for name in ("9 honest, median", "9 honest, trimmed mean"):
        assert apart(name, "9 honest", "accuracy").median() > -0.01
        assert apart(name, "9 honest").max() < 0
    assert apart("9 honest, Krum", "9 honest", "accuracy").max() < -0.03
    print("claim holds: the median slows the attack for nothing, and Krum costs accuracy")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

md("robust-remember", r"""
**To remember**: in 60 rounds a median helps, and it is free. Whether it stops the attack or delays it, these runs do not say.
""")
