"""After the second readers: whole cells."""
from cells4 import CELLS, md, code, at, edit

md("reading", r"""
## How to read what follows

Of each defence you will ask *who* can use it, what it *costs*, and what still *leaks*.

| who | sees | can change |
| --- | --- | --- |
| the victim | its images, the global model | what it trains on, how, and what it sends |
| all participants together | | the protocol: how much is sent, in how many rounds |
| the server | every single update | how updates become one model |
| the attacker | its images, the global model; the victim's update, if there are only the two of them | what it trains on, how, and what it sends |

The **cost** is a loss of accuracy on the *target*, which only honest participants can teach. It is measured on 100 images, after the attacker's quiet rounds. (While the attacker injects, this accuracy is low.) One image is 0.01, so smaller differences than 0.03 mean little.

**Leakage** has two numbers, as in notebook 03. **TSTR** says whether the fakes could replace real images, and the **probe** says how much they reveal. A TSTR of 0 does not mean privacy if the probe is high. Never quote **recognition** alone: the judge must choose one of ten digits.

Tables give the median, and in brackets the lowest and the highest. *Runs* says how many there are, one for each seed. Few runs and wide ranges mean that you must not rank settings by their medians. Rows of fakes are of digit 3, seed 0, and their labels have the medians. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:
""")

md("anchors-look", r"""
With the *class held back*, nobody shows the model the target. Whatever these fakes reveal comes from the other nine digits, and that can be much: look at the highest value for the 3. Only what goes beyond it leaks.
""")

edit("dpsgd", ("""**What is promised.** Take two data sets, of which one has one image more. Training is $(\\varepsilon, \\delta)$-*differentially private* if for every set $S$ of outcomes, and with the two data sets exchanged as well,

$$P(S) \\le e^\\varepsilon P'(S) + \\delta.$$

A small""", """**What is promised.** Take two data sets, of which one has one image more, and let $P$ and $P'$ be the probabilities of what training gives with each. Training is $(\\varepsilon, \\delta)$-*differentially private* if for every set $S$ of outcomes

$$P(S) \\le e^\\varepsilon P'(S) + \\delta,$$

and the same with $P$ and $P'$ exchanged. A small"""),
 (" So the promise is about *one* image.", " So the promise is about *one* image. For $k$ images it is only $k \\varepsilon$."),
 ("Here are two of Opacus's: Rényi differential privacy (RDP), which names the budgets, and a tighter numerical one (PRV). $\\delta = 10^{-4}$, $C = 1$, and a round has four steps.",
  "Here are two of Opacus's: Rényi differential privacy (RDP), after which the settings are called, and a tighter numerical one (PRV). $\\delta = 10^{-4}$, $C = 1$, and this victim takes four larger steps a round, not eight."))

md("dpsgd-look", r"""
*Look at* the columns one by one. Clipping alone changes nothing. With noise, **target accuracy** falls: at $\varepsilon = 8$ it is «m('DP-SGD, epsilon 8','ta',3)» on the 3 and «m('DP-SGD, epsilon 8','ta',9)» on the 9, and at 1 the model classifies no image of the target. **TSTR** falls, too, but between the budgets there is no clear trend, and in the worst case at $\varepsilon = 1$ it is still «h('DP-SGD, epsilon 1','t')». The **probe** stays above «floor_p('DP-SGD, epsilon 1')». To the eye, the fakes of the last row are hardly 3s. A classifier that learns from them still finds real 3s.

**Is it the noise?** In two controls on the digit 3, the attacker does not inject, or the victim holds the class back as well:
""")
md("dpsgd-claim", r"""
*Look at* TSTR. «dp_adapted»

**Claim.** With clipping alone, TSTR is above 0.85 in every run. At $\varepsilon = 8$ target accuracy is above 0.6, and at 1 below 0.1. At both, and for every seed, the probe is higher than with the class held back. On the 3 this is also true if the same noise is added to what remains.
""")
edit("dpsgd-check", ('print("claim holds: the model loses the class before the fakes do")', 'print("claim holds: at epsilon 1 the model does not know the class, and its fakes still tell of it")'))

md("user-look", r"""
*Look at* target accuracy. Even this noise at the server is too much for one honest participant and for nine. With so little learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)» on the 3), and the probe falls from «m('40 honest','p',3)» to «m('40 honest, noise at the server','p',3)». But it is one run, and among forty the attack is slow without noise, too (TSTR «m('40 honest','t',3)», as in notebook 05).

**What does the work?** The server clips the attacker, too. These runs take the parts one by one (nine honest participants, digit 3; *all count alike* has equal weights and no clip):
""")
md("user-controls-look", r"""
*Look at* TSTR. Clipping at 0.5 without noise lowers it from «m('9 honest','t',3)» to «m('9 honest, clipping at the server','t',3)». Clipping the attacker alone does most of that («m('9 honest, attacker alone clipped','t',3)»), and clipping the honest clients alone next to nothing («m('9 honest, honest alone clipped','t',3)»). So it is the clip on the attacker that matters: its updates have a norm of some 1.3, honest ones of some 0.57. A quarter of the noise, which the model can bear, adds nothing («m('9 honest, a quarter of the noise','t',3)»). A clip at 0.2 leaves «m('9 honest, clipping at 0.2','t',3)», for «clip_cost» of target accuracy. An attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)», and one that injects nine times as many fakes nothing.

**Claim.** With this noise at the server, target accuracy is below 0.6 with one and nine honest participants. On the digit 3, the clip on the attacker alone lowers TSTR by more than 0.2 for every seed, and the clip on the honest ones does not.
""")

md("secure-claim", r"""
*Look at* the last two lines. The server no longer sees a single update. The attacker sees what it saw before: participants receive the average, and in it the masks cancel exactly. (With one honest participant it even gets the victim's update: it subtracts its own.)

**Claim.** With the masks the global model is the same to the last bit, and so is every pixel that the attacker draws.
""")
edit("sharing", ("rounded at random so that the mean stays right (Alistarh et al. 2017).", "rounded at random so that the mean stays right (Wen et al. 2017)."),
  ("A victim can also leave after 20 of 100 rounds, and keep its own model.", "A victim can also leave a federation of 100 rounds after 20 of them, and keep its own model."))
md("sharing-look", r"""
*Look at* target accuracy beside TSTR. **Two bits** cost the attacker nothing. A **tenth** is no defence. A **hundredth** lowers TSTR to «m('1 % of each update','t',3)» and «m('1 % of each update','t',9)», but in one run only to «h('1 % of each update','t',3)». It leaves a probe of «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)», and costs about a tenth of target accuracy. Error feedback restores the accuracy, and most of the attack with it. **Twenty rounds** reduce TSTR to «m('20 rounds','t',3)» on the 3 and to «m('20 rounds','t',9)» on the 9, for some hundredths of accuracy. «twenty_floor» A victim that leaves a longer federation after round 20 gives away more («m('leaves after 20 of 100 rounds','t',3)» and «m('leaves after 20 of 100 rounds','t',9)»), as its attacker has not gone quiet.

**An attacker that knows** can break the rule and send its whole update. In a short federation it can take more generator steps, or act as if it had a hundred rounds, and never go quiet:
""")
md("sharing-claim", r"""
*Look at* TSTR, and then at target accuracy. A whole update gets the class («m('1 % of each update, sends all of its own','t',3)» and «m('1 % of each update, sends all of its own','t',9)»), and ruins the finished model's target accuracy («m('1 % of each update, sends all of its own','ta',3)» and «m('1 % of each update, sends all of its own','ta',9)»). An attacker that plans for a hundred rounds gets «m('20 rounds, plans for a hundred','t',3)» and «m('20 rounds, plans for a hundred','t',9)», and leaves a target accuracy of «m('20 rounds, plans for a hundred','ta',3)» and «m('20 rounds, plans for a hundred','ta',9)». Twice as many generator steps cost no accuracy, and bring twenty rounds to «m('20 rounds, takes twice as many steps','t',3)» and «m('20 rounds, takes twice as many steps','t',9)» («lo('20 rounds, takes twice as many steps','t',9)» to «h('20 rounds, takes twice as many steps','t',9)»).

**Claim.** In every pair of runs, two bits leave TSTR within 0.05 of *none*. A hundredth lowers it by more than 0.15, and leaves a probe above 0.4. With a whole update from the attacker, TSTR is above 0.6.
""")
edit("robust", ("**To remember**: what the model learns, every participant can extract.", "**To remember**: with one honest participant, what the model learns of a class can be extracted, though it may take longer."))
code("robust-adapted", """
rules = ("9 honest", "9 honest, median", "9 honest, trimmed mean", "9 honest, Krum")
minority = "9 honest, two hold the class"
summary(*(name for rule in rules for name in adapted_to(rule)), minority, f"{minority}, median")
""")
md("robust-look", r"""
*Look at* TSTR, and then at target accuracy. Median and trimmed mean cost the model nothing here, and after 60 rounds they leave much less: on the 3, «m('9 honest, median','t',3)» and «m('9 honest, trimmed mean','t',3)», where the mean gives «m('9 honest','t',3)»; on the 9, nothing that could replace an image. «crowd_floor» Krum leaves nothing, and its model is worse, because it drops eight honest updates as well.

**An attacker that knows** can send a larger change, or take more generator steps (the first rows have it without a defence). Against Krum it can send a *small* change, or blend in (section 6). The last two rows are a control: only two of nine honest clients hold the class.
""")
md("robust-claim", r"""
*Look at* the worst cases. «robust_steps» Against Krum, small changes get something through in every run (probe «lo('9 honest, Krum, keeps its update small','p')» to «h('9 honest, Krum, keeps its update small','p')»). «robust_minority»

**Claim.** Median and trimmed mean lower TSTR in every pair of runs, and for each rule the median loss of target accuracy is below 0.02. Krum lowers the accuracy on all digits by more than 0.03.
""")
md("robust-remember", r"""
**To remember**: a median slows the plain attacker for 60 rounds, where most clients hold the class. It does not slow every attacker.
""")
md("detect-areas-look", r"""
*Look at* each pair of columns. The mean of all rounds is less noisy than a single update. The **attacker as it is** then stands out in all six signals. With **all of this at once**, its mean norm is the *smallest* of ten in every run, which this server does not take for suspicious, and cosine and fake bias still rank it first. The last pair is a warning: where **nobody injects**, the tenth client may stand out by chance (fake bias: an area of «calm_bias»). Being first is no proof.

**To accuse**, a server needs a limit: the highest score of any client from round 3 on where nobody injects. Here it comes from «num_calm» runs with other seeds. A client that exceeds the limit of one signal is accused. Four more kinds of attacker try to stay below the limits. They wait for 20 rounds, inject in every third round, or *blend in*: they simulate a few honest clients at home, and keep each number of their update within 4, 2 (*more*) or 1 (*closely*) standard deviations of those (Baruch et al. 2019). *With other labels* also calls half of the fakes the target and the others a 0.

In the picture, lines are medians over the runs, and bands the ranges. Each score is divided by its limit, so a client above 1 is accused:
""")
md("detect-times-look", r"""
*Look at* the first column (both digits together; *inf* is never). An attacker that injects from the start is found in round 3, before it has drawn anything, unless it blends in very closely. One that waits is found when it begins. (An earlier round is a false alarm.) *probe_run* and *tstr_run* say what it would have drawn if nobody had stopped it. «det_blend» The last column is the price. «det_false» So a server must look twice before it excludes anybody.

**Who wins?** Here the server: no attacker hides and still draws the target. But its task is easy. Everybody takes part in every round, honest clients are much alike, and for one signal it has images of the target. A better attacker may exist.

**Claim.** Every attacker that injects from the start is found by round 5, unless it blends in within 2 standard deviations. One that waits for 20 rounds is found by round 25. One that blends in closely ends with a TSTR below 0.1.
""")
md("alone-look", r"""
*Look at* TSTR from top to bottom. **Held back**, the class stays with the victim, if nobody else teaches it. The model does not know it. (A TSTR of «h('class held back','t',3)» in one run comes from the other digits.) Shown in **every tenth round**, it leaks (TSTR «m('class in every 10th round','t',3)» and «m('class in every 10th round','t',9)»; at least «lo('class in every 10th round','t')»), and a tenth of target accuracy is lost, even right after such a round. **Augmentation** does not help («m('augmentation','t',3)» and «m('augmentation','t',9)»): a classifier learns from turned and shifted digits as well. **Dropout** does nothing.

**Keys** protect little («m('keys','t',3)» and «m('keys','t',9)»). The attacker makes up a key, and pulls its fakes towards it and away from the nine keys that it knows. What is left is mostly the tenth class. Learning the key from its own fakes works on the 3 and fails on the 9. (*Known to the attacker* is a control.)

**An attacker that knows** of augmentation can distort its fakes in the same way before the model sees them (Bora et al. 2018). Then it draws upright digits (last row of the picture). They look better, and TSTR is lower.

**Claim.** With the class held back, target accuracy is below 0.05, and TSTR lower than with *none* by more than 0.3. Augmentation and dropout leave TSTR within 0.05 of *none* in every pair of runs.
""")
edit("picture", ("**To remember**: what the model must know, the participants will know.", "**To remember**: with one victim, a model that knows the class shows it."),
  ("Further right is more useful (the axis is stretched there), further down more private. A star marks what nothing in its panel *dominates*: nothing is at least as good in both, and better in one.",
   "Further right is more useful (the axis is stretched there). Further down the fakes are of less use, which is less than private: see the probe. A star marks what nothing in its panel *dominates*: nothing is at least as good in both, and better in one. The grey line joins the stars."))
code("dpsgd-adapted", """
def adapted_to(name):
    return defences.attackers_of(name)[1:]


summary("DP-SGD, epsilon 8", *adapted_to("DP-SGD, epsilon 8"))
""")
md("picture-look", r"""
*Look at* the lower right corner: useful *and* private. With one honest participant it is empty. (*1 % of each update*, and on the 3 *20 rounds*, stand on the left because their most harmful attackers ruin target accuracy.) In the crowd the server's rules lie below *9 honest*, the plain mean, at little cost, after 60 rounds. Clip, noise and forty honest met few attackers that know them, and forty honest is one run.

## 9. One gradient inversion, beside the GAN

Whoever sees single updates can search for images whose gradient points in the same direction (Geiping et al. 2020). Here is this search, before the first round, for updates that the victim *could* send. The last row is the one that it *does* send.
""")
s = CELLS[at("inversion-look")][2]; tail = s[s.index("## What this does not show"):]
md("inversion-look", r"""
*Look at* the last column: of all training images of the same digit, the share that resembles the reconstruction more than the true image does. At 0.5 it could be any image of the digit. (*error* is the mean squared difference per pixel between reconstruction and true image, and *other_error* that between two images of the digit.) The gradients of one and of eight images give them away; those of 32, or eight steps of Adam on eight, give some away. On an honest update this search fails. You can make out a digit here and there, but not the victim's image. A better search may find more ([Related work](pages/related_work.md)). So it finds *individuals* where clients send gradients of a few images, and the GAN finds a *class* in federated averaging as it is.

""" + tail)
edit("inversion-look", ("- Two digits, one data set, small networks. «few_seeds»", "- Two digits, one data set, small networks. «few_seeds» The claims describe these runs."),
 ("- Defences had one or a few settings. Where we tried fewer attackers that know a defence, it looks better.", "- Defences had one or a few settings, and were not combined. Where we tried fewer attackers that know a defence, it looks better."),
 ("- **Protects nothing**:", "- **Protects nothing** from this attacker:"),
 ("- **Costs the model the class before it hides it**: DP-SGD by the victim.", "- **Costs the model the class, and does not hide it**: DP-SGD by the victim, at these settings."),
 ("- **Slows it** for 60 rounds: a crowd, and in it a clip, a median or a trimmed mean.", "- **Slows the plain attacker** for 60 rounds: a crowd, and in it a clip, a median or a trimmed mean."),
 ("- **Finds it**: a server that remembers, whenever the attacker draws something here.", "- **Finds it**, with false alarms: a server that remembers, whenever the attacker draws something here."))
edit("quiz", ("Right. They are *other* pictures of the class: the digits as the victim showed them.", "Right. The fakes show the digits as augmentation has distorted them, and that is enough to learn from."),
 ("Right. The finished model has lost the class, and the attacker has collected it over a hundred rounds.", "Right. The model never learned to classify a 3. Each round's model told a little of it, and the attacker gathered this over a hundred rounds."))
edit("references", ("- D. Alistarh et al.: *QSGD*, NIPS 2017, [arXiv 1610.02132](https://arxiv.org/abs/1610.02132).", "- W. Wen et al.: *TernGrad*, NIPS 2017, [arXiv 1705.07878](https://arxiv.org/abs/1705.07878). D. Alistarh et al.: *QSGD*, NIPS 2017, [arXiv 1610.02132](https://arxiv.org/abs/1610.02132)."))
