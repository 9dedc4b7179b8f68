from cells import md, code, CELLS

md("detect", r"""
## 6. Detection

**The idea.** The attacker's update must differ from honest ones, or it would teach nothing. **Who**: the server, which computes six signals of each update:

- **norm**: $\lVert \Delta_k \rVert$;
- **cosine**: between $\Delta_k$ and the mean change of the others (small is suspicious);
- **fake bias**: how far the bias of the spare output rose;
- **fake row**: how far the weights of the spare output moved, over the median of all outputs;
- **largest row**: the same for the output whose weights moved farthest;
- **worst digit**: the accuracy of the client's model on its worst digit, on twenty labelled images of each (small is suspicious).

The federation is that of section 5. For every threshold on a signal, a *ROC curve* shows the share of the attacker's updates that are found against the share of honest ones that are accused. The *area* under it is the chance that an update of the attacker looks more suspicious than an honest one: 1 is perfect, 0.5 is guessing.

A server can also **remember**. With $\bar m_k$ the mean of a signal of client $k$ over the rounds so far, its score is:

$$s_k = \frac{\bar m_k - \operatorname{mean}_{j \neq k} \bar m_j}{\operatorname{sd}_{j \neq k} \bar m_j}$$
""")

code("detect-scores", """
SIGNALS, GUILTY = detection.SIGNALS, 9  # the attacker is the last of ten clients
active = detected[detected["round"] <= max(1, 0.9 * detected["round"].max())]  # then it does as the honest do
by_run = dict(list(active.groupby(["attacker", "digit", "seed"])))
scores = {key: {name: detection.remembered(seen, name) for name in SIGNALS} for key, seen in by_run.items()}
""")

code("detect-areas", """
def areas(name):
    \"\"\"Of each signal, the area over single updates, and over the clients' last scores.\"\"\"
    updates = active[active["attacker"] == name]
    ends = [pd.DataFrame({s: of_run[s].iloc[-1] for s in SIGNALS}) for key, of_run in scores.items() if key[0] == name]
    last_scores = pd.concat(ends)
    return pd.DataFrame(
        {
            "single updates": {s: roc_auc_score(updates["client"] == GUILTY, SIGNALS[s] * updates[s]) for s in SIGNALS},
            "remembered": {s: roc_auc_score(last_scores.index == GUILTY, last_scores[s]) for s in SIGNALS},
        }
    )


pd.concat({name: areas(name) for name in ("as it is", "all of this at once", "nobody injects")}, axis=1).round(2)
""")

md("detect-areas-look", r"""
*Look at* each pair of columns. Single updates are noisy, and the mean of all rounds is less so. The **attacker as it is** then stands out in all six signals. One that does **all of this at once** calls every other fake the target and the rest a 0, and clips its change to 0.5. That hides its norm and its worst digit. Cosine and fake bias still rank it first. The last pair is a warning: where **nobody injects**, the tenth client stands out in two signals as well (fake bias: «calm_bias»). So being first is no proof.

**To accuse**, a server needs a limit. Here it is the highest score that any client reaches from round 3 on where nobody injects. Whoever exceeds the limit of any one signal is accused. The attackers below know this. They wait for 20 rounds, inject in every third round, or *blend in*: they play a few honest clients at home, and keep each number of their update within 4, 2 or 1 standard deviations of those (Baruch et al. 2019).
""")

code("detect-alarm", """
first = min(3, active["round"].max())
calm = [key for key in scores if key[0] == "nobody injects"]
limits = {name: max(scores[key][name].loc[first:].max(axis=None) for key in calm) for name in SIGNALS}


def alarm(key):
    \"\"\"By round and client: the highest of its six scores, each over its limit.\"\"\"
    over = [scores[key][name].loc[first:] / limits[name] for name in SIGNALS]
    return pd.concat(over).groupby(level="round").max()
""")

code("detect-picture", """
shown = ["as it is", "all of this at once", "waits for 20 rounds", "blends in", "blends in more", "blends in closely"]


def curves(name):
    over = [alarm(key) for key in scores if key[0] == name]
    guilty = np.array([table[GUILTY] for table in over])
    return over[0].index, guilty, np.array([table.drop(columns=GUILTY).max(axis=1) for table in over])


ylabel = "highest score over its limit"
plot_standing_out({name: curves(name) for name in shown}, threshold=1, ylabel=ylabel)
""", alt="Six panels, one an attacker: the attacker's highest score over the rounds, far above the alarm from the beginning, or from round 21 where it waits. Only the one that blends in closely stays near the alarm. Honest clients stay below it in most runs.")

code("detect-times", """
def caught(key):
    over, own = alarm(key), by_run[key][by_run[key]["client"] == GUILTY].set_index("round")
    when = detection.round_found(over, GUILTY, 1)
    return {
        "found in round": when,
        "probe by then": own["probe"].dropna().loc[:when].iloc[-1],
        "honest clients accused": (over.drop(columns=GUILTY) > 1).any().sum(),
    }


of_run = detected.dropna(subset="tstr_run").groupby(["attacker", "digit", "seed"])[["tstr_run", "probe_run"]].first()
found = pd.DataFrame({key: caught(key) for key in scores}).T.rename_axis(["attacker", "digit", "seed"]).join(of_run)
by_attacker = found.groupby("attacker")
columns = {name: by_attacker[name].agg(spread) for name in ("found in round", "probe by then", "probe_run", "tstr_run")}
accused = by_attacker["honest clients accused"].agg(lambda runs: f"{runs.sum():.0f} of {9 * len(runs)}")
pd.DataFrame(columns).assign(accused=accused).loc[list(detection.ATTACKERS)]
""")


md("detect-times-look", r"""
*Look at* the first two columns. An attacker that injects is found as soon as the server judges, with its probe near 0; one that waits is found when it begins. The others say what it costs to blend in: the more closely, the less the attacker draws, even if nobody stops it. «det_blend» The last column is the price: now and then the server accuses an honest client.

**Who wins?** None of these attackers hides from the server and draws the target. The server has an easy task: everybody takes part in every round, and honest clients are much alike. A better attacker may exist.

**Claim.** Every attacker that injects from the start and does not blend in more closely than 4 standard deviations is found by round 5, with a probe below 0.1. The one that blends in closely ends with a TSTR below 0.1.
""")

code("detect-check", """
if full_size:
    at_once = [name for name in detection.ATTACKERS if name.split()[0] not in ("nobody", "waits", "blends")]
    chosen = found.loc[[*at_once, "blends in"]]
    assert chosen["found in round"].max() <= 5 and chosen["probe by then"].max() < 0.1
    assert found.loc["waits for 20 rounds", "found in round"].max() <= 25
    assert found.loc["blends in closely", "tstr_run"].max() < 0.1
    print("claim holds: a server that remembers finds the attackers that draw something")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

md("detect-masks", r"""
**And secure aggregation?** A server that sees only sums cannot compute these signals. But with RoFL, EIFFeL, ACORN or PINE, clients prove that their masked updates keep within a norm, or pass another check ([Related work](pages/related_work.md)). Section 2 shows what such a bound does.

**To remember**: judge clients over many rounds, and test a detector against those who know it.

## 7. What the victim can do alone

**The idea.** The victim needs nobody's consent to

- **hold the class back**, or show it in every tenth round only;
- **augment**: show each image rotated, moved, scaled and sheared at random, never as it is;
- use **dropout**: set half of the inputs of the linear layers to zero while it trains.

With the others it can agree on **keys** (Sarıyıldız et al. 2020): in place of an output, each class gets a secret direction, which only its holders know. So the attacker cannot name what it wants to see.
""")

code("alone-strips", """
alone = ["none", "class held back", "class in every 10th round", "augmentation", "dropout", "keys"]
strips(*alone)
""", alt="Rows of fakes of the digit 3: no 3 with the class held back; readable 3s with all other measures, slanted ones with augmentation.")

code("alone-table", """
summary(*alone, *adapted_to("augmentation"), *adapted_to("keys"))
""")

md("alone-look", r"""
*Look at* TSTR from top to bottom. **Held back**, the class stays with the victim, and the model does not know it. Shown in **every tenth round**, it leaks (TSTR «m('class in every 10th round','t',3)» and «m('class in every 10th round','t',9)», in the least case «lo('class in every 10th round','t')»), and a tenth of target accuracy is lost. **Augmentation** protects nothing («m('augmentation','t',3)» and «m('augmentation','t',9)»): the attacker draws digits as they were shown, turned and shifted, and a classifier learns from those as well. **Dropout** does nothing.

**Keys** protect little («m('keys','t',3)» and «m('keys','t',9)»). The attacker makes up a key, and pulls its fakes towards it and away from the nine keys that it knows. What is left is mostly the tenth class. On the 9, many fakes are other digits (recognition «m('keys','r',9)»).

**An attacker that knows** of augmentation can distort its fakes in the same way before anybody sees them (Bora et al. 2018). Then it draws upright digits (recognition «m('augmentation, distorts its fakes','r',3)» and «m('augmentation, distorts its fakes','r',9)»), and TSTR is a little lower. Learning the key from its own fakes fails on the 9.

**Claim.** With the class held back, target accuracy is below 0.05, and TSTR below 0.3. Augmentation and dropout leave TSTR within 0.05 of *none* in every pair of runs.
""")

code("alone-check", """
if full_size:
    assert runs_of("class held back", "target_accuracy").max() < 0.05
    assert runs_of("class held back").max() < 0.3
    for name in ("augmentation", "dropout"):
        assert apart(name, "none").abs().max() < 0.05
    print("claim holds: augmentation and dropout protect nothing, and holding the class back does")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")

md("picture", r"""
**To remember**: what the model must know, the participants will know.

## 8. All of it in one picture

Each point is a defence under its *most harmful* attacker: of those that we tried, the one with the highest median of TSTR. It stands at the medians of its runs, in a cross of their range. Right is useful, down is private. A star marks a defence that no other one in its panel dominates: none is at least as good in both, and better in one.
""")

code("picture-groups", """
by_whom = {
    "nobody": ["none", "1 honest", "9 honest", "40 honest"],
    "the victim": [*budgets[1:], *alone[1:]],
    "all": shares[1:],
    "the server": [*robust[1:], "9 honest, noise at the server", "40 honest, noise at the server"],
}
groups = {name: who for who, names in by_whom.items() for name in names}


def points(names, digit):
    at = {}
    for name in names:
        attackers = [name, *adapted_to(name)] if name in defences.ADAPTED else [name]
        runs = [last[(last["defence"] == one) & (last["digit"] == digit)] for one in attackers]
        worst = max((of for of in runs if len(of)), key=lambda of: of["tstr"].median())
        at[name] = list(zip(worst["target_accuracy"], worst["tstr"], strict=True))
    return at
""")

code("picture-levels", """
kinds = anchors.groupby(["digit", "kind"])["tstr"].median()
heights = {digit: {kind: kinds[digit, kind] for kind in ("noise", "real images")} for digit in digits}


def picture(names):
    panels = {f"TSTR, digit {digit}": points(names, digit) for digit in digits}
    return plot_defences(panels, groups=groups, levels={f"TSTR, digit {digit}": heights[digit] for digit in digits})


one_honest = [name for name in groups if "honest" not in name and "leaves" not in name]
picture(one_honest)
""", alt="TSTR against the accuracy on the target for the digits 3 and 9, with one honest participant. The lower right corner, useful and private, is empty.")

code("picture-crowds", """
picture([name for name in groups if "9 honest" in name or "40 honest" in name])
""", alt="The same for nine and forty honest participants after 60 rounds. Median and trimmed mean keep the accuracy and lie lower than the mean.")

md("picture-look", r"""
*Look at* the lower right corner, where a defence would be useful *and* private. With one honest participant it is empty. (An attacker that breaks a rule, as against *1 % of each update* and *20 rounds*, may wreck target accuracy.) In the crowds, median and trimmed mean lie below the mean at no cost, after 60 rounds.

## 9. One gradient inversion, beside the GAN

Somebody who sees single updates, like the server, can search for images whose gradient points in the direction of the one that it received (Geiping et al. 2020). Here is this search on our classifier, for updates that the victim *could* send. The last row is the update that it *does* send.
""")

code("inversion-strips", """
inverted = np.load("runs/gradients.npz")
wanted = ["gradient of 8 images", "gradient of 32 images", "8 steps of Adam on 8 images"]
wanted += ["an honest update: 8 steps on 256 images"]
true = inverted["gradient of 8 images"][:8]
plot_strips({"private images": true} | {name: inverted[name][8:] for name in wanted}, columns=6)
""", alt="Six private digits, and below them what gradient inversion finds: the same digits from the gradient of 8 images, blurred ones from that of 32, some of them after 8 steps of Adam, and noise with a few outlines from an honest update.")

code("inversion-table", """
columns = ["error", "other_error", "closer"]
pd.read_csv("runs/gradients.csv").groupby("update")[columns].agg(spread).loc[["gradient of 1 image", *wanted]]
""")

md("inversion-look", r"""
*Look at* the last column: of all training images of the same digit, the share that resembles the find more than the true image does. At 0 the find is that image. At 0.5 it could be any image of the digit. (The error is the mean squared difference of a pixel, and beside it stands that of another image.) The gradients of one and of eight images give them away. From an honest update, eight steps of Adam on 256 images, you can make out a digit here and there, because the search knows the labels. But it is no longer the victim's image. So this search finds *individuals* where clients send gradients of a few images, and the GAN finds a *class* in federated averaging as it is. A better search may find more ([Related work](pages/related_work.md)).

## What this does not show

- Two digits, one data set, small networks. Few seeds show a spread, and no confidence interval.
- Crowds had 60 rounds, in which even the undefended attack is not finished. A defence that only *slows* looks better than it is.
- Defences and adapted attackers had one or a few settings each. An expert could tune both.
- Opacus runs without its cryptographic random numbers here. Choosing settings by their results spends privacy, too, and nobody counts that.
- Everybody takes part in every round. Sampling makes participant-level privacy much cheaper, and needs more participants.

## Recap

- **Protects nothing**: secure aggregation, two bits a number, a tenth of each update, dropout, augmentation, clipping gradients.
- **Protects little**: keys; the class in every tenth round.
- **Ruins the class before it hides it**: DP-SGD by the victim.
- **Depends on the attacker**: a hundredth of each update, and twenty rounds.
- **Slows it at no cost** in 60 rounds: a crowd, and in a crowd the median, the trimmed mean, and a clip.
- **Finds it**: a server that remembers, against all attackers here that draw something.
- **Ends it**: not teaching the class; noise that hides a whole participant, in a federation too small for it. Both end the model's use for the class, too.
""")

md("quiz", r"""
## Quiz

Choose an answer, then open it.

**1.** With augmentation, most fakes look turned and slanted, and the Fréchet distance is larger. Does augmentation protect the class?

<details><summary>Yes, the pictures are worse</summary>

No. They are *other* pictures: digits as the victim showed them. A classifier that learns from them finds the real ones as well as before.
</details>

<details><summary>No</summary>

Yes. TSTR stays where it is, and an attacker that knows of it draws the digits upright.
</details>

**2.** At $\varepsilon = 1$ the model classifies no 3 correctly. What do the fakes tell of a 3?

<details><summary>Nothing, what the model does not know cannot leak</summary>

No. The probe is far above that of *class held back*. The model has seen the class, and gives it away in part without being of use for it.
</details>

<details><summary>Something: about a third of them are 3s</summary>

Yes. Recognition says how many. TSTR and probe do not notice the others.
</details>

**3.** Nine participants send masked updates, so that the server sees only the sum. What changes for the attacker?

<details><summary>Nothing</summary>

Yes. It only ever looked at the global model.
</details>

<details><summary>It can no longer see the victim's update</summary>

It never could. The masks protect clients from the server.
</details>

**4.** A hundredth of each update leaves a TSTR near 0. Can you rely on it?

<details><summary>Yes, in every run</summary>

No. These attackers kept to the rule. One that sends its whole update gets the class. And even without it, the probe finds much.
</details>

<details><summary>No, a rule that the attacker may break is no defence</summary>

Yes. But a server could enforce this rule, and then the attacker must find another way.
</details>

**5.** A client's score is the highest of ten over all rounds. Is it the attacker?

<details><summary>Yes, that is what the area says</summary>

No. One of ten clients is always the highest, also where nobody attacks. The server needs a limit, and a limit has false alarms.
</details>

<details><summary>Perhaps</summary>

Yes. What counts is by how much, compared with federations in which nobody injects.
</details>
""")

md("exercises", r"""
## Exercises

Complete a cell, run it, and then run the check below it. The [solutions](solutions/06_defences.ipynb) are in a notebook of their own.
""")

md("references", r"""
## References

- B. Hitaj, G. Ateniese, F. Perez-Cruz: *Deep Models Under the GAN*, CCS 2017, [arXiv 1702.07464](https://arxiv.org/abs/1702.07464).
- M. Abadi et al.: *Deep Learning with Differential Privacy*, CCS 2016, [arXiv 1607.00133](https://arxiv.org/abs/1607.00133). A. Yousefpour et al.: *Opacus*, 2021, [arXiv 2109.12298](https://arxiv.org/abs/2109.12298). S. Gopi, Y. T. Lee, L. Wutschitz: *Numerical Composition of Differential Privacy*, NeurIPS 2021, [arXiv 2106.02848](https://arxiv.org/abs/2106.02848).
- H. B. McMahan et al.: *Learning Differentially Private Recurrent Language Models*, ICLR 2018, [arXiv 1710.06963](https://arxiv.org/abs/1710.06963).
- K. Bonawitz et al.: *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017.
- D. Alistarh et al.: *QSGD*, NIPS 2017, [arXiv 1610.02132](https://arxiv.org/abs/1610.02132).
- P. Blanchard et al.: *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*, NIPS 2017. D. Yin et al.: *Byzantine-Robust Distributed Learning*, ICML 2018, [arXiv 1803.01498](https://arxiv.org/abs/1803.01498). G. Baruch, M. Baruch, Y. Goldberg: *A Little Is Enough*, NeurIPS 2019, [arXiv 1902.06156](https://arxiv.org/abs/1902.06156).
- M. B. Sarıyıldız, R. G. Cinbiş, E. Ayday: *Key Protected Classification for Collaborative Learning*, Pattern Recognition 104, 2020, [arXiv 1908.10172](https://arxiv.org/abs/1908.10172). A. Bora, E. Price, A. Dimakis: *AmbientGAN*, ICLR 2018.
- J. Geiping et al.: *Inverting Gradients*, NeurIPS 2020, [arXiv 2003.14053](https://arxiv.org/abs/2003.14053).
""")
