"""Revised after the first readers: replaces and inserts cells by id."""
from cells import CELLS
import cells2  # noqa: F401

def at(id): return next(i for i, c in enumerate(CELLS) if c[1] == id)
def md(id, text): i = at(id); CELLS[i] = ("markdown", id, text.strip("\n"), None)
def code(id, text): i = at(id); CELLS[i] = ("code", id, text.strip("\n"), CELLS[i][3])
def after(id, kind, new, text, alt=None, tags=()): CELLS.insert(at(id) + 1, (kind, new, text.strip("\n"), None if kind == "markdown" else (alt, tags)))

code("table", """
table = pd.read_csv(f"{folder}/defences.csv").query("digit in @digits")
pictures = np.load(f"{folder}/defences.npz")
last = table.groupby(["defence", "digit", "seed"]).tail(1)
detected = pd.read_csv(f"{folder}/detection.csv")
inspected = detected.groupby(["attacker", "digit", "seed"])
anchors = pd.read_csv("runs/seeds.csv").query("digit in @digits and kind in ['noise', 'real images']")
print(f"{last['defence'].nunique()} settings, {len(last)} runs")
print(f"{detected['attacker'].nunique()} attackers that the server inspects, {inspected.ngroups} runs")
""")

md("reading", r"""
## How to read what follows

*Who* can act, what does it *cost*, and what still *leaks*?

| who | sees | can change |
| --- | --- | --- |
| the victim | its images, the global model | what it trains on, how, and what it sends |
| all participants together | | the protocol: how much is sent, in how many rounds |
| the server | every single update | how updates become one model |
| the attacker | its images, the global model; the victim's update, if there are only the two of them | what it trains on, how, and what it sends |

**Cost** is the accuracy of the finished model on the *target*, which only honest participants can teach. It is measured after the attacker's quiet rounds. (While the attacker injects, it is low.)

**Leakage** has two numbers, as in notebook 03. **TSTR** says whether the fakes could replace real images, and the **probe** says how much they reveal. A TSTR of 0 is no privacy while the probe is high. Differences in TSTR below about 0.04 mean little. Never quote **recognition** alone: the judge must choose one of ten digits.

Tables give the median of the seeds, and in brackets the lowest and the highest. Rows of fakes are of digit 3, seed 0. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:
""")

md("anchors-look", r"""
With the *class held back*, nobody shows the model the target. Whatever these fakes reveal comes from the other nine digits. Only what goes beyond it leaks.
""")

md("dpsgd", r"""
## 1. Differential privacy for each image: DP-SGD

**The idea.** Bound what a single image can do to the training, and hide it in noise. **Who**: the victim, alone. In each step it takes each of its $N$ images with probability $q$ (a Poisson sample $B$), clips the gradient $g_i$ of each image to the norm $C$, and adds Gaussian noise to the sum, with the noise multiplier $z$ (Abadi et al. 2016):

$$\tilde g = \frac{1}{q N} \Big( \sum_{i \in B} g_i \min\big(1, \tfrac{C}{\lVert g_i \rVert}\big) + \mathcal N(0, z^2 C^2 I) \Big)$$

**What is promised.** Take two data sets, of which one has one image more. Training is $(\varepsilon, \delta)$-*differentially private* if for every set $S$ of outcomes, and with the two data sets exchanged as well,

$$P(S) \le e^\varepsilon P'(S) + \delta.$$

A small $\varepsilon$ is a strong promise. $\delta$ must lie below $1/N$, which already allows publishing one image picked at random. So the promise is about *one* image. Does it help against an attack on what all images of a class share?

An *accountant* adds up what all steps spend. Here are two of Opacus's: Rényi differential privacy (RDP), which names the budgets, and a tighter numerical one (PRV). $\delta = 10^{-4}$, $C = 1$, and a round has four steps.
""")
code("dpsgd-budgets", """
train, _ = load_dataset()
_, (victim, _) = build_federation(train, 3)
for epsilon in (50, 8, 3, 1):
    private = PrivateClient(victim.dataset, epsilon=epsilon, num_rounds=100)
    z, rate, delta = private.noise_multiplier, private.sample_rate, private.delta
    spent = [spent_epsilon(z, sample_rate=rate, steps=4 * 100, delta=delta, accountant=one) for one in ("rdp", "prv")]
    print(f"epsilon {epsilon:>2}: noise multiplier z = {z:.2f}; spent {spent[0]:.2f} (RDP), {spent[1]:.2f} (PRV)")
""")
md("dpsgd-look", r"""
*Look at* the columns one by one. Clipping alone changes nothing. With noise, **target accuracy** falls: at $\varepsilon = 8$ it is «m('DP-SGD, epsilon 8','ta',3)» on the 3 and «m('DP-SGD, epsilon 8','ta',9)» on the 9, and at 1 the model knows no image of the target. **TSTR and probe** fall much less. (Their ranges overlap, so you can read no trend into them.)

**Is it the noise?** In two controls on the digit 3, the attacker does not inject, or the victim holds the class back as well:
""")
after("dpsgd-look", "code", "dpsgd-controls", """
quiet = [f"DP-SGD, epsilon {epsilon}, nobody injects" for epsilon in (8, 1)]
withheld = [f"DP-SGD, epsilon {epsilon}, class held back" for epsilon in (8, 1)]
summary("none, nobody injects", *quiet, "class held back", *withheld).query("digit == 3")
""")
after("dpsgd-controls", "markdown", "dpsgd-controls-look", r"""
«dp_controls»

**An attacker that knows** of the noise can average the models that it receives, take more or fewer generator steps, or call half of its fakes the target:
""")
md("dpsgd-claim", r"""
*Look at* TSTR. «dp_adapted»

**Claim.** With clipping alone, TSTR is above 0.85 in every run. At $\varepsilon = 8$ target accuracy is above 0.6, and at 1 below 0.1. At both, the probe is higher than with the class held back, seed by seed, with the noise (on the 3) and without it.
""")
code("dpsgd-check", """
if full_size:
    assert runs_of("DP-SGD, clipping alone").min() > 0.85
    assert runs_of("DP-SGD, epsilon 8", "target_accuracy").min() > 0.6
    assert runs_of("DP-SGD, epsilon 1", "target_accuracy").max() < 0.1
    for name in ("DP-SGD, epsilon 8", "DP-SGD, epsilon 1"):
        assert apart(name, "class held back", "probe").min() > 0
        assert apart(name, f"{name}, class held back", "probe").min() > 0
    print("claim holds: the model loses the class before the fakes do")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
md("dpsgd-remember", r"""
**To remember**: DP-SGD keeps its promise, which is about one image. The attack is after what all images of a class share. (The page [Defences](pages/defences.md) discusses the budgets of the paper.)
""")
md("user", r"""
## 2. Differential privacy for each participant

**The idea.** The model should hardly depend on whether the victim takes part *at all*. **Who**: the server, or each client before it sends. The server clips the change $\Delta_k$ of each of $n$ clients to the norm $S$, and adds noise to their mean (McMahan et al. 2018):

$$w \leftarrow w + \frac1n \Big( \sum_{k=1}^{n} \Delta_k \min\big(1, \tfrac{S}{\lVert \Delta_k \rVert}\big) + \mathcal N(0, z^2 S^2 I) \Big)$$

All clients have equal weight here. On the mean the noise has the standard deviation $z S / n$. By hand, without noise:
""")
md("user-accounting", r"""
How much noise is which $\varepsilon$? Everybody takes part in all 60 rounds. $n$ counts the attacker, and $\delta = n^{-1.1}$, which is below $1/n$:
""")
code("user-budgets", """
for n in (10, 41):
    for z in (1, 3.5):
        spent = [spent_epsilon(z, sample_rate=1, steps=60, delta=n**-1.1, accountant=one) for one in ("rdp", "prv")]
        noise = z * 0.5 / n
        print(f"n = {n}, z = {z}: noise {noise:.3f} on the mean; epsilon {spent[0]:.1f} (RDP), {spent[1]:.1f} (PRV)")
""")
md("user-neighbours", r"""
Below, $z = 1$ and $S = 0.5$: a budget above 40 promises next to nothing. Neighbouring federations differ in one participant, whose change is zero in one of them. (Two changes can lie $2S$ apart, and between those the promise is weaker.) Clients that trust nobody each add the whole noise to their own message, and then the mean has $\sqrt n$ times the noise.
""")
md("user-look", r"""
*Look at* target accuracy. Even this noise at the server is too much for one honest participant and for nine, and where nothing is learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)» and «m('40 honest, noise at the server','ta',9)»). But among forty the attack is slow even without noise.

**What does the work?** The server clips the attacker, too. These runs take the parts one by one (nine honest participants, digit 3):
""")
code("user-controls", """
parts = ["clipping at the server", "attacker alone clipped", "honest alone clipped", "a quarter of the noise"]
parts += ["clipping at 0.2", "clipping at 0.2, injects nine times as many"]
parts += ["clipping at 0.2, takes four times as many steps", "all count alike"]
summary("9 honest", *(f"9 honest, {part}" for part in parts)).query("digit == 3")
""")
md("user-controls-look", r"""
*Look at* TSTR. Clipping at 0.5 without any noise lowers it from «m('9 honest','t',3)» to «m('9 honest, clipping at the server','t',3)». Clipping the attacker alone gives «m('9 honest, attacker alone clipped','t',3)», and clipping the honest clients alone «m('9 honest, honest alone clipped','t',3)». So the attacker's clip counts: its updates have a norm of some 1.2, and honest ones of some 0.56. A quarter of the noise, which the model can bear, gives «m('9 honest, a quarter of the noise','t',3)». A clip at 0.2 leaves «m('9 honest, clipping at 0.2','t',3)» after 60 rounds, for «clip_cost» of target accuracy. But an attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)» against it. (Without a defence, so many steps harm the attack.)

**Claim.** With this noise at the server, target accuracy is below 0.6 with one and nine honest participants. On the digit 3, the clip on the attacker alone lowers TSTR by more than 0.2 for every seed, and the clip on the honest ones does not.
""")
md("user-remember", r"""
**To remember**: participant-level privacy needs a larger crowd than here (exercise 1). A clip slows this attacker, because its updates are long.

## 3. Secure aggregation

**The idea.** Each pair of clients agrees on a random mask. One adds it, the other subtracts it, and in the sum the masks cancel (Bonawitz et al. 2017). **Who**: all clients together. With $u_k$ the update of client $k$ in fixed-point numbers, times its number of examples, and everything modulo $2^{64}$:

$$y_k = u_k + \sum_{j > k} m_{kj} - \sum_{j < k} m_{jk}, \qquad \sum_k y_k = \sum_k u_k$$
""")
code("secure", """
def secure_mean(updates, state, masked, seen):
    updates = list(updates)
    total = sum(update.num_examples for update in updates)
    sent = [{n: (w.double() * u.num_examples * 2**32).round().long() for n, w in u.state.items()} for u in updates]
    for one, two in combinations(sent, 2):
        for name, whole in one.items():
            mask = torch.randint(-(2**63), 2**63 - 1, whole.shape) if masked else torch.zeros_like(whole)
            one[name], two[name] = one[name] + mask, two[name] - mask  # modulo 2^64
    seen.append(sent[0]["0.bias"].double() / 2**32 / total)  # what the server gets of the first client
    return {name: (sum(each[name] for each in sent).double() / 2**32 / total).float() for name in state}
""")
md("secure-claim", r"""
*Look at* the last two lines. The server no longer sees a single update. The attacker sees what it saw before: it is a *participant*, and participants receive the average. (With one honest participant, it even gets the victim's update: it subtracts its own from the sum.)

**Claim.** With the masks the global model is the same to the last bit, and so is every pixel that the attacker draws.
""")
md("sharing", r"""
**To remember**: secure aggregation protects against the server, and this attacker is not the server.

## 4. Sharing less

**The idea.** What is not sent cannot leak. **Who**: all participants, as a rule of the protocol. They send only the largest tenth or hundredth of their changes. Or they send two bits per number, a sign or a zero, rounded at random so that the mean stays right (Alistarh et al. 2017). Or they stop after 20 rounds.

$$\text{top}_\theta(\Delta) \qquad\text{or}\qquad Q(\Delta_j) = s \cdot \operatorname{sign}(\Delta_j) \cdot b_j, \quad b_j \in \{0, 1\}, \quad P(b_j = 1) = \frac{|\Delta_j|}{s}, \quad s = \max_j |\Delta_j| \text{ in each tensor}$$

With *error feedback*, as is usual, a client adds what it held back to its next change. A victim can also leave after 20 of 100 rounds, and keep its own model.
""")
md("sharing-look", r"""
*Look at* target accuracy beside TSTR. **Two bits** cost the attacker nothing. (They cut uploads to a sixteenth, and the traffic to about half, as whole models still come down.) A **tenth** is no defence either. A **hundredth** leaves little that could replace an image (TSTR «m('1 % of each update','t',3)» and «m('1 % of each update','t',9)») and much that reveals (probe «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)»), and costs about a tenth of target accuracy. Error feedback restores the accuracy, and most of the attack with it. **Twenty rounds** reduce TSTR to «m('20 rounds','t',3)» on the 3 and to «m('20 rounds','t',9)» on the 9, for some hundredths of accuracy. A victim that leaves at that time has given away more: its attacker has not gone quiet.

**An attacker that knows** can break the rule and send its whole update. In a short federation it can take more generator steps, or act as if it had a hundred rounds, and never go quiet:
""")
md("sharing-claim", r"""
*Look at* the first two rows. Sending the whole update succeeds: TSTR is «m('1 % of each update, sends all of its own','t',3)» and «m('1 % of each update, sends all of its own','t',9)». It also ruins the finished model's target accuracy («m('1 % of each update, sends all of its own','ta',3)» and «m('1 % of each update, sends all of its own','ta',9)»). Twice as many generator steps bring twenty rounds to «m('20 rounds, takes twice as many steps','t',3)» and «m('20 rounds, takes twice as many steps','t',9)», and the finished model does not show it.

**Claim.** In every pair of runs, two bits leave TSTR within 0.05 of *none*. A hundredth lowers it by more than 0.5, and its probe stays above that of the class held back. With a whole update from the attacker, TSTR is above 0.6.
""")
code("sharing-check", """
if full_size:
    assert apart("2 bits a number", "none").abs().max() < 0.05
    assert apart("1 % of each update", "none").max() < -0.5
    assert apart("1 % of each update", "class held back", "probe").min() > 0
    assert runs_of("1 % of each update, sends all of its own").min() > 0.6
    print("claim holds: fewer bits are no defence, and a hundredth is a weak one that an attacker can break")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
md("robust", r"""
**To remember**: what the model learns, every participant can extract.

## 5. Robust aggregation

**The idea.** No single client may move the mean far. **Who**: the server. For each weight it takes the *median* of the clients' values, or a *trimmed mean* without the two largest and the two smallest (Yin et al. 2018). Or it takes the one update that lies nearest to its neighbours (*Krum*, Blanchard et al. 2017):

$$\text{Krum} = \arg\min_{k} \sum_{j \in N(k)} \lVert \Delta_k - \Delta_j \rVert^2, \qquad N(k) = \text{the } n - f - 2 \text{ nearest of } k$$

for $f$ hostile clients. Here the attacker is one of ten, and six of the nine honest clients hold the target. A median, by hand:
""")
md("robust-look", r"""
*Look at* TSTR, and then at target accuracy. Median and trimmed mean cost the model nothing here, and after 60 rounds they leave much less: on the 3, «m('9 honest, median','t',3)» and «m('9 honest, trimmed mean','t',3)», where the mean gives «m('9 honest','t',3)»; on the 9, nothing that could replace an image. The probe still finds a 3 («m('9 honest, median','p',3)»). Krum leaves nothing. Its model is worse, because Krum drops eight honest updates as well.

**An attacker that knows** can send a larger change, which uses all the room that a median leaves, or take more generator steps. Against Krum it can send a *small* change, or blend in (section 6). The last two rows are a control: only two of nine honest clients hold the class.
""")
code("robust-adapted", """
rules = ("9 honest, median", "9 honest, trimmed mean", "9 honest, Krum")
known = [name for rule in rules for name in adapted_to(rule)]
minority = "9 honest, two hold the class"
summary("9 honest, takes four times as many steps", *known, minority, f"{minority}, median")
""")
md("robust-claim", r"""
*Look at* the worst cases. Four times as many generator steps bring the median to «m('9 honest, median, takes four times as many steps','t',3)» on the 3. «robust_minority» Against Krum, small changes reach a probe of «h('9 honest, Krum, keeps its update small','p')» in one run and «lo('9 honest, Krum, keeps its update small','p')» in another.

**Claim.** Median and trimmed mean lower target accuracy by less than 0.02 in the middle of the runs, and lower TSTR in every pair of runs. Krum lowers the accuracy on all digits by more than 0.03.
""")
code("robust-check", """
if full_size:
    for name in ("9 honest, median", "9 honest, trimmed mean"):
        assert apart(name, "9 honest", "target_accuracy").median() > -0.02
        assert apart(name, "9 honest").max() < 0
    assert apart("9 honest, Krum", "9 honest", "accuracy").max() < -0.03
    print("claim holds: a median slows the plain attack at no cost here, and Krum costs accuracy")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
md("robust-remember", r"""
**To remember**: a median helps for 60 rounds where most clients hold the class. Where few do, it takes the class from the model rather than from the attacker.
""")
md("detect", r"""
## 6. Detection

**The idea.** The attacker's update must differ from honest ones, or it would teach nothing. **Who**: the server, which computes six signals of each update:

| signal | what it is | suspicious |
| --- | --- | --- |
| norm | $\lVert \Delta_k \rVert$ | large |
| cosine | between $\Delta_k$ and the mean change of the others | small |
| fake bias | how far the bias of the spare output rose | large |
| fake row | how far the weights of the spare output moved, over the median of all outputs | large |
| largest row | the same for the output that moved farthest | large |
| worst digit | accuracy of the client's model on its worst digit, on twenty images of each | small |

For every threshold on a signal, a *ROC curve* shows the share of the attacker's updates that are found against the share of honest ones that are accused. The *area* under it is the chance that an update of the attacker looks more suspicious than an honest one: 1 is perfect, 0.5 is guessing, and near 0 the sign is wrong.

A server can also **remember**. With $\bar m_k$ the mean of a signal of client $k$ over the rounds so far, its score is:

$$s_k = \frac{\bar m_k - \operatorname{mean}_{j \neq k} \bar m_j}{\operatorname{sd}_{j \neq k} \bar m_j}$$

The attacker may know the signals, in the federation of section 5. It can call its fakes a 0, call half of them the target, send small updates (clipped to 0.5), or do *all of this at once*.
""")
md("detect-areas-look", r"""
*Look at* each pair of columns. The mean of all rounds is less noisy than a single update. The **attacker as it is** then stands out in all six signals. With **all of this at once**, its norm is always the *smallest*, which is suspicious in its own way, and cosine and fake bias still rank it first. The last pair is a warning. Where **nobody injects**, the tenth client stands out as well (fake bias: «calm_bias»), perhaps because it lacks the target. Being first is no proof.

**To accuse**, a server needs a limit: the highest score of any client from round 3 on where nobody injects. (Here in runs with other seeds. A real server needs a trial that it trusts.) Whoever exceeds the limit of one signal is accused. The attackers below know this. They wait for 20 rounds, inject in every third round, or *blend in*: they play a few honest clients at home, and keep each number of their update within 4, 2 or 1 standard deviations of those (Baruch et al. 2019).
""")
code("detect-alarm", """
first = min(3, active["round"].max())
calm = [key for key in scores if key[0] == "nobody injects"]


def limits(seed):
    \"\"\"By signal: the highest score of any client where nobody injects, in runs of other seeds, if there are any.\"\"\"
    others = [key for key in calm if key[2] != seed] or calm
    return {name: max(scores[key][name].loc[first:].max(axis=None) for key in others) for name in SIGNALS}


of_seed = {seed: limits(seed) for seed in {key[2] for key in scores}}


def alarm(key):
    \"\"\"By round and client: the highest of its six scores, each over its limit.\"\"\"
    over = [scores[key][name].loc[first:] / of_seed[key[2]][name] for name in SIGNALS]
    return pd.concat(over).groupby(level="round").max()
""")
md("detect-times-look", r"""
(Both digits are in one row.) *Look at* the first column. An attacker that injects at once is found as soon as the server judges, before it has drawn anything; one that waits is found when it begins. Probe and TSTR of the whole run say what it would draw if nobody stopped it: the more closely it blends in, the less. «det_blend» The last column is the price: «det_false»

**Who wins?** None of these attackers hides and draws the target. But the server has an easy task: everybody takes part in every round, and honest clients are much alike. A better attacker may exist.

**Claim.** An attacker that injects from the start, and blends in within 4 standard deviations or not at all, is found by round 5. One that waits for 20 rounds is found by round 25. One that blends in closely ends with a TSTR below 0.1.
""")
code("detect-check", """
if full_size:
    at_once = [name for name in detection.ATTACKERS if name.split()[0] not in ("nobody", "waits", "blends")]
    assert found.loc[[*at_once, "blends in"], "found in round"].max() <= 5
    assert found.loc["waits for 20 rounds", "found in round"].max() <= 25
    assert found.loc["blends in closely", "tstr_run"].max() < 0.1
    print("claim holds: a server that remembers finds the attackers that draw something")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
code("alone-table", """
known = "keys, known to the attacker"
summary(*alone, *adapted_to("augmentation"), *adapted_to("keys"), known)
""")
code("alone-strips", """
alone = ["none", "class held back", "class in every 10th round", "augmentation", "dropout", "keys"]
strips(*alone, "augmentation, distorts its fakes")
""")
md("alone-look", r"""
*Look at* TSTR from top to bottom. **Held back**, the class stays with the victim, and the model does not know it. Shown in **every tenth round**, it leaks (TSTR «m('class in every 10th round','t',3)» and «m('class in every 10th round','t',9)»; at least «lo('class in every 10th round','t')»), and costs a tenth of target accuracy, right after such a round. **Augmentation** hides nothing («m('augmentation','t',3)» and «m('augmentation','t',9)»): the attacker draws digits as they were shown, turned and shifted, and a classifier learns from those as well. **Dropout** does nothing.

**Keys** protect little («m('keys','t',3)» and «m('keys','t',9)»). The attacker makes up a key, and pulls its fakes towards it and away from the nine keys that it knows. What is left is mostly the tenth class. (With fewer known keys there is more to guess.) A key that the attacker learns from its own fakes is wrong on the 9.

**An attacker that knows** of augmentation can distort its fakes in the same way before the model sees them (Bora et al. 2018). Then it draws upright digits (last row of pictures), and TSTR is lower.

**Claim.** With the class held back, target accuracy is below 0.05, and TSTR below 0.3. Augmentation and dropout leave TSTR within 0.05 of *none* in every pair of runs.
""")
code("picture-groups", """
by_whom = {
    "nobody": ["none", "1 honest", "9 honest", "40 honest"],
    "the victim": [*budgets[1:], *alone[1:5]],
    "all": [*shares[1:], "keys"],
    "the server": [*robust[1:], *(f"9 honest, {part}" for part in ("clipping at the server", "clipping at 0.2"))],
}
by_whom["the server"] += [f"{number} honest, noise at the server" for number in (9, 40)]
groups = {name: who for who, names in by_whom.items() for name in names}


def points(names, digit):
    at = {}
    for name in names:
        runs = [of for one, of in last[last["digit"] == digit].groupby("defence") if one in [name, *adapted_to(name)]]
        if runs:  # some were run on the 3 alone
            worst = max(runs, key=lambda of: of["tstr"].median())
            at[name] = list(zip(worst["target_accuracy"], worst["tstr"], strict=True))
    return at
""")
md("picture", r"""
**To remember**: what the model must know, the participants will know.

## 8. All of it in one picture

A point marks the medians of a defence under its *most harmful* attacker: of those that we tried, the one with the highest median of TSTR. Bars show the ranges. Further right is more useful (the axis is stretched there), further down more private. A star marks what nothing in its panel dominates: nothing is at least as good in both, and better in one.
""")
md("picture-look", r"""
*Look at* the lower right corner: useful *and* private. With one honest participant it is empty. (At *1 % of each update* it is the attacker that ruins target accuracy.) In the crowd the clip and the median lie below the mean, at little or no cost, after 60 rounds. But read the probe, too.

## 9. One gradient inversion, beside the GAN

Whoever sees single updates can search for images whose gradient points in the same direction (Geiping et al. 2020). Here is this search, before the first round, for updates that the victim *could* send. The last row is the one that it *does* send.
""")
s = CELLS[at("inversion-look")][2]
import re
a, b = s.index("*Look at*"), s.index("## What this does not show")
md("inversion-look", r"""
*Look at* the last column: of all training images of the same digit, the share that resembles the reconstruction more than the true image does. At 0.5 it could be any image of the digit. (The error is the mean squared difference of a pixel, beside that of another image.) The gradients of one and of eight images give them away; those of 32, or eight steps of Adam on eight, give some away. From an honest update you can make out a digit here and there, as the search is told the labels, but not the victim's image. So this search finds *individuals* where clients send gradients of a few images. The GAN finds a *class* in federated averaging as it is. A better search may find more ([Related work](pages/related_work.md)).

## What this does not show

- Two digits, one data set, small networks. «few_seeds»
- Crowds had 60 rounds, in which even the undefended attack is not finished. A defence that only *slows* looks better than it is.
- Defences, DP-SGD too, had one or a few settings. Where we tried fewer attackers that know a defence, it looks better.
- Opacus runs without its cryptographic random numbers here. Choosing settings by their results spends privacy, too.
- Everybody takes part in every round. Sampling makes participant-level privacy much cheaper, and needs more participants.

## Recap

- **Protects nothing** against this attacker: secure aggregation, two bits per number, a tenth of each update, dropout, augmentation, clipping gradients.
- **Protects little**: keys; the class in every tenth round.
- **Costs the model the class before it hides it**: DP-SGD by the victim.
- **Depends on the attacker**: a hundredth of each update; twenty rounds.
- **Slows it** for 60 rounds: a crowd, and in it a clip, a median or a trimmed mean.
- **Finds it**: a server that remembers, whenever the attacker draws something here.
- **Ends it**: not teaching the class; so much noise that nothing is learned.
""")
md("quiz", r"""
## Quiz

Choose an answer, then open it.

**1.** With augmentation, the fakes are turned and slanted. TSTR is as high as without. Why?

<details><summary>TSTR is too generous</summary>

Wrong. It puts noise and other digits near 0.
</details>

<details><summary>A classifier learns the digit from turned examples, too</summary>

Right. They are *other* pictures of the class: the digits as the victim showed them.
</details>

**2.** At $\varepsilon = 1$ the model classifies no 3 correctly. What do the fakes reveal of a 3?

<details><summary>Nothing, as what the model does not know cannot leak</summary>

Wrong. The probe is far above that of the class held back.
</details>

<details><summary>Much, as the probe says</summary>

Right. The finished model has lost the class, and the attacker has collected it over a hundred rounds.
</details>

**3.** Ten participants mask their updates, so that the server sees only the sum. What changes for the attacker?

<details><summary>It can no longer see the victim's update</summary>

Wrong. Among ten it never could. Masks protect clients from the server.
</details>

<details><summary>The attack works as before, and the server cannot inspect its updates</summary>

Right. It needs the global model only. And detection as in section 6 needs single updates.
</details>

**4.** A hundredth of each update leaves a TSTR near 0. Can you rely on it?

<details><summary>Yes, in every run</summary>

Wrong. These attackers kept to the rule. One that sends its whole update gets the class. And even without that, the probe finds much.
</details>

<details><summary>No, a rule that the attacker may break is no defence</summary>

Right. A server could enforce the rule, if it sees the updates. Then the attacker must find another way.
</details>

**5.** A client has the highest score of ten in every round. Is it the attacker?

<details><summary>Yes</summary>

Wrong. One of ten clients is always the highest, also where nobody attacks.
</details>

<details><summary>Perhaps</summary>

Right. What counts is by how much, compared with federations in which nobody injects.
</details>
""")
