"""Shorter, and with the number of runs in each table."""
from cells3 import CELLS, md, code, at

def edit(id, *pairs):
    i = at(id); kind, _, s, extra = CELLS[i]
    for a, b in pairs:
        assert s.count(a) == 1, (id, s.count(a), a)
        s = s.replace(a, b)
    CELLS[i] = (kind, id, s, extra)

edit("title", ("This notebook opens the results of «num_runs» recorded runs. `recompute = True` in the next cell, or `make defences`, repeats them (some eight hours on two CPU cores; if interrupted, it resumes).",
  "This notebook opens «num_runs» recorded runs. `recompute = True`, or `make defences`, repeats them («hours» on two CPU cores, with pauses if you like)."))
edit("reading",
 ("## How to read what follows\n\n*Who* can act, what does it *cost*, and what still *leaks*?\n", "## How to read what follows\n\nOf each defence you will ask *who* can use it, what it *costs*, and what still *leaks*.\n"),
 ("Tables give the median of the seeds, and in brackets the lowest and the highest. Rows of fakes are of digit 3, seed 0. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:",
  "Tables give the median, and in brackets the lowest and the highest. *Runs* says how many there are, one for each seed. Rows of fakes are of digit 3, seed 0. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:"))
code("functions", """
COLUMNS = ["tstr", "probe", "recognition", "target_accuracy", "accuracy"]
pd.set_option("display.max_colwidth", None)


def spread(runs):
    return "-" if runs.isna().all() else f"{runs.median():.2f} ({runs.min():.2f} to {runs.max():.2f})"


def summary(*names):
    chosen = last[last["defence"].isin(names)].groupby(["defence", "digit"])
    rows = chosen[COLUMNS].agg(spread).assign(runs=chosen.size())
    return rows.reindex([row for name in names for row in rows.index if row[0] == name])


def runs_of(name, column="tstr"):
    return last[last["defence"] == name].set_index(["digit", "seed"])[column].sort_index()
""")
edit("dpsgd", ("$\\delta$ must lie below $1/N$, which already allows publishing one image picked at random. So the promise is about *one* image. Does it help against an attack on what all images of a class share?",
  "$\\delta$ must lie below $1/N$. (At $1/N$ it would allow publishing one image, picked at random.) So the promise is about *one* image. Does it help against an attack on what all images of a class share?"))
edit("dpsgd-look", (" (Their ranges overlap, so you can read no trend into them.)", " (Their ranges overlap, so read no trend into them.)"))
edit("user-controls-look",
 ("*Look at* TSTR. Clipping at 0.5 without any noise lowers it from", "*Look at* TSTR. Clipping at 0.5 without noise lowers it from"),
 ("Clipping the attacker alone gives", "Clipping the attacker alone gives"),
 ("So the attacker's clip counts: its updates have a norm of some 1.2, and honest ones of some 0.56. A quarter of the noise, which the model can bear, gives «m('9 honest, a quarter of the noise','t',3)».",
  "So the attacker's clip counts: its updates have a norm of some 1.2, honest ones of some 0.56. A quarter of the noise, which the model can bear, adds nothing («m('9 honest, a quarter of the noise','t',3)»)."),
 (" But an attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)» against it. (Without a defence, so many steps harm the attack.)",
  " An attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)»."))
edit("sharing-look", ("(They cut uploads to a sixteenth, and the traffic to about half, as whole models still come down.)", "(They cut uploads to a sixteenth. As whole models still come down, half of the traffic remains.)"),
 (" A victim that leaves at that time has given away more: its attacker has not gone quiet.", " A victim that leaves a longer federation at that time has given away more."))
edit("robust-look", (" Krum leaves nothing. Its model is worse, because Krum drops eight honest updates as well.", " Krum leaves nothing, and its model is worse, because it drops eight honest updates as well."))
edit("detect-areas-look",
 ("*Look at* each pair of columns. The mean of all rounds is less noisy than a single update. The **attacker as it is** then stands out in all six signals. With **all of this at once**, its norm is always the *smallest*, which is suspicious in its own way, and cosine and fake bias still rank it first. The last pair is a warning. Where **nobody injects**, the tenth client stands out as well (fake bias: «calm_bias»), perhaps because it lacks the target. Being first is no proof.",
  "*Look at* each pair of columns. The mean of all rounds is less noisy than a single update. The **attacker as it is** then stands out in all six signals. With **all of this at once**, its norm is always the *smallest*, which is suspicious, too, and cosine and fake bias still rank it first. The last pair is a warning: where **nobody injects**, the tenth client often stands out as well (fake bias: an area of «calm_bias»), perhaps because it lacks the target. Being first is no proof."),
 ("(Here in runs with other seeds. A real server needs a trial that it trusts.) Whoever exceeds the limit of one signal is accused. The attackers below know this. They wait for 20 rounds, inject in every third round, or *blend in*: they play a few honest clients at home, and keep each number of their update within 4, 2 or 1 standard deviations of those (Baruch et al. 2019).",
  "(Here these are runs with other seeds. A real server needs a trial that it trusts.) Whoever exceeds the limit of one signal is accused. More attackers know this. They wait for 20 rounds, inject in every third round, or *blend in*: they play a few honest clients at home, and keep each number of their update within 4, 2 or 1 standard deviations of those (Baruch et al. 2019)."))
edit("detect-times-look",
 ("(Both digits are in one row.) *Look at* the first column. An attacker that injects at once is found as soon as the server judges, before it has drawn anything; one that waits is found when it begins. Probe and TSTR of the whole run say what it would draw if nobody stopped it: the more closely it blends in, the less. «det_blend» The last column is the price: «det_false»",
  "*Look at* the first column (both digits together). An attacker that injects at once is found as soon as the server judges, before it has drawn anything. One that waits is found when it begins. *probe_run* and *tstr_run* say what it would have drawn if nobody had stopped it. «det_blend» The last column is the price. «det_false»"),
 ("**Who wins?** None of these attackers hides and draws the target. But the server has an easy task: everybody takes part in every round, and honest clients are much alike. A better attacker may exist.",
  "**Who wins?** Here the server: no attacker hides and still draws the target. But its task is easy. Everybody takes part in every round, and honest clients are much alike. A better attacker may exist."))
edit("alone-look",
 ("Shown in **every tenth round**, it leaks (TSTR «m('class in every 10th round','t',3)» and «m('class in every 10th round','t',9)»; at least «lo('class in every 10th round','t')»), and costs a tenth of target accuracy, right after such a round.",
  "Shown in **every tenth round**, it leaks (TSTR «m('class in every 10th round','t',3)» and «m('class in every 10th round','t',9)»; at least «lo('class in every 10th round','t')»), and a tenth of target accuracy is lost, even right after such a round."),
 (" (With fewer known keys there is more to guess.) A key that the attacker learns from its own fakes is wrong on the 9.", " Learning the key from its own fakes fails on the 9."))
edit("picture", ("Further right is more useful (the axis is stretched there), further down more private. A star marks what nothing in its panel dominates: nothing is at least as good in both, and better in one.",
  "Further right is more useful (the axis is stretched there), further down more private. A star marks what nothing in its panel *dominates*: nothing is at least as good in both, and better in one."))
edit("inversion-look",
 ("*Look at* the last column: of all training images of the same digit, the share that resembles the reconstruction more than the true image does. At 0.5 it could be any image of the digit. (The error is the mean squared difference of a pixel, beside that of another image.) The gradients of one and of eight images give them away; those of 32, or eight steps of Adam on eight, give some away. From an honest update you can make out a digit here and there, as the search is told the labels, but not the victim's image. So this search finds *individuals* where clients send gradients of a few images. The GAN finds a *class* in federated averaging as it is. A better search may find more",
  "*Look at* the last column: of all training images of the same digit, the share that resembles the reconstruction more than the true image does. At 0.5 it could be any image of the digit. (The errors are mean squared differences of a pixel, from the true image and from another.) The gradients of one and of eight images give them away; those of 32, or eight steps of Adam on eight, give some away. From an honest update you can make out a digit here and there, as the search is told the labels, but not the victim's image. So this search finds *individuals* where clients send gradients of a few images, and the GAN finds a *class* in federated averaging as it is. A better search may find more"),
 ("- Two digits, one data set, small networks. «few_seeds»\n- Crowds had 60 rounds, in which even the undefended attack is not finished. A defence that only *slows* looks better than it is.\n- Defences, DP-SGD too, had one or a few settings. Where we tried fewer attackers that know a defence, it looks better.\n- Opacus runs without its cryptographic random numbers here. Choosing settings by their results spends privacy, too.\n- Everybody takes part in every round. Sampling makes participant-level privacy much cheaper, and needs more participants.",
  "- Two digits, one data set, small networks. «few_seeds»\n- Crowds had 60 rounds, in which even the undefended attack is not finished. A defence that only *slows* looks better than it is.\n- Defences had one or a few settings. Where we tried fewer attackers that know a defence, it looks better.\n- Opacus runs without its cryptographic random numbers here. Choosing settings by their results spends privacy, too.\n- Everybody takes part in every round. Sampling makes participant-level privacy much cheaper, and needs more participants."))
edit("dpsgd", (" So the promise is about *one* image. Does it help against an attack on what all images of a class share?", " So the promise is about *one* image."))
edit("alone-look", ("the attacker draws digits as they were shown, turned and shifted, and a classifier learns from those as well.", "a classifier learns from turned and shifted digits as well."),
 ("Then it draws upright digits (last row of pictures), and TSTR is lower.", "Then it draws upright digits (last row above), and TSTR is lower."))
edit("inversion-look", ("- Opacus runs without its cryptographic random numbers here. Choosing settings by their results spends privacy, too.\n", ""),
 ("From an honest update you can make out a digit here and there, as the search is told the labels, but not the victim's image.", "From an honest update you can make out a digit here and there, but not the victim's image. (The search is told the labels.)"),
 ("A better search may find more ([Related work](pages/related_work.md)).", "([Related work](pages/related_work.md) has better searches.)"))
edit("sharing-look", (" A victim that leaves a longer federation at that time has given away more.", " A victim that leaves a longer federation then has given away more."),
  ("A **tenth** is no defence either. A **hundredth** leaves little that could replace an image", "A **tenth** is no defence. A **hundredth** leaves little that could replace an image"))
edit("secure-claim", ("The server no longer sees a single update. The attacker sees what it saw before: it is a *participant*, and participants receive the average. (With one honest participant, it even gets the victim's update: it subtracts its own from the sum.)",
   "The server no longer sees a single update. The attacker sees what it saw before: participants receive the average. (With one honest participant it even gets the victim's update: it subtracts its own.)"))
edit("robust-claim", ("**Claim.** Median and trimmed mean lower target accuracy by less than 0.02 in the middle of the runs, and lower TSTR in every pair of runs. Krum lowers the accuracy on all digits by more than 0.03.",
  "**Claim.** Median and trimmed mean lower TSTR in every pair of runs, and target accuracy by less than 0.02 in the median. Krum lowers the accuracy on all digits by more than 0.03."))
edit("detect", ("**The idea.** The attacker's update must differ from honest ones, or it would teach nothing. **Who**: the server, which computes six signals of each update:", "**The idea.** The attacker's update must differ from honest ones, or it would teach nothing. **Who**: the server. It computes six signals of each update:"),
  ("The attacker may know the signals, in the federation of section 5. It can call its fakes a 0, call half of them the target, send small updates (clipped to 0.5), or do *all of this at once*.",
   "In the federation of section 5, an attacker that knows the signals can call its fakes a 0, call half of them the target, send small updates (clipped to 0.5), or do *all of this at once*."))
edit("detect-masks", ("A server that sees only sums cannot compute these signals. But with RoFL, EIFFeL, ACORN or PINE, clients prove that their masked updates keep within a norm, or pass another check ([Related work](pages/related_work.md)). Section 2 shows what such a bound does.",
  "A server that sees only sums cannot compute these signals. But clients can prove that their masked updates keep within a norm (RoFL, EIFFeL, ACORN, PINE: [Related work](pages/related_work.md)). Section 2 shows what such a bound does."))
edit("picture-look", ("*Look at* the lower right corner: useful *and* private. With one honest participant it is empty. (At *1 % of each update* it is the attacker that ruins target accuracy.) In the crowd the clip and the median lie below the mean, at little or no cost, after 60 rounds. But read the probe, too.",
  "*Look at* the lower right corner: useful *and* private. With one honest participant it is empty. (At *1 % of each update* the attacker ruins target accuracy.) In the crowd the clip and the median lie below the mean, at little or no cost, after 60 rounds. But the probe still finds the class."))
edit("detect-areas-look", (", perhaps because it lacks the target. Being first is no proof.", ". Being first is no proof."),
 ("a server needs a limit: the highest score of any client from round 3 on where nobody injects. (Here these are runs with other seeds. A real server needs a trial that it trusts.) Whoever exceeds the limit of one signal is accused.",
  "a server needs a limit: the highest score of any client from round 3 on where nobody injects (here, in runs with other seeds). Whoever exceeds the limit of one signal is accused."))
md("robust-remember", "**To remember**: a median helps, for 60 rounds, where most clients hold the class.")
edit("sharing-look", (" (They cut uploads to a sixteenth. As whole models still come down, half of the traffic remains.)", ""))
edit("sharing-claim", (", and the finished model does not show it.", "."))
edit("user-controls-look", (" after 60 rounds, for «clip_cost» of target accuracy.", ", for «clip_cost» of target accuracy."))
edit("title", (" on two CPU cores, with pauses if you like).", " on two CPU cores)."))
edit("inversion-look", ("- **Protects nothing** against this attacker:", "- **Protects nothing**:"))
edit("robust-look", ("can send a larger change, which uses all the room that a median leaves, or take more generator steps.", "can send a larger change, or take more generator steps."))
edit("user-look", ("Even this noise at the server is too much for one honest participant and for nine, and where nothing is learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)» and «m('40 honest, noise at the server','ta',9)»). But among forty the attack is slow even without noise.",
  "Even this noise at the server is too much for one honest participant and for nine, and where nothing is learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)» on the 3). But among forty the attack is slow even without noise (TSTR «m('40 honest','t',3)», as in notebook 05)."))
# after the third seed
edit("anchors-look", ("Whatever these fakes reveal comes from the other nine digits. Only what goes beyond it leaks.", "Whatever these fakes reveal comes from the other nine digits, and that can be much: look at the highest value for the 3. Only what goes beyond it leaks."))
edit("sharing-look", ("leaves little that could replace an image (TSTR «m('1 % of each update','t',3)» and «m('1 % of each update','t',9)») and much that reveals (probe «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)»)",
  "lowers TSTR (to «m('1 % of each update','t',3)» and «m('1 % of each update','t',9)», but in one run only to «h('1 % of each update','t',3)»), leaves a high probe («m('1 % of each update','p',3)» and «m('1 % of each update','p',9)»)"),
  (" and costs about a tenth of target accuracy. Error feedback", " and costs about a tenth of target accuracy. Error feedback"))
edit("sharing-claim", ("A hundredth lowers it by more than 0.5, and its probe stays above that of the class held back.", "A hundredth lowers it by more than 0.15, and leaves a probe above 0.4."),
  ("Twice as many generator steps bring twenty rounds to «m('20 rounds, takes twice as many steps','t',3)» and «m('20 rounds, takes twice as many steps','t',9)».",
   "Twice as many generator steps bring twenty rounds to «m('20 rounds, takes twice as many steps','t',3)» and «m('20 rounds, takes twice as many steps','t',9)» («lo('20 rounds, takes twice as many steps','t',9)» to «h('20 rounds, takes twice as many steps','t',9)»)."))
code("sharing-check", """
if full_size:
    assert apart("2 bits a number", "none").abs().max() < 0.05
    assert apart("1 % of each update", "none").max() < -0.15
    assert runs_of("1 % of each update", "probe").min() > 0.4
    assert runs_of("1 % of each update, sends all of its own").min() > 0.6
    print("claim holds: fewer bits are no defence, and a hundredth is one only if the attacker keeps to it")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
edit("alone-look", ("**Claim.** With the class held back, target accuracy is below 0.05, and TSTR below 0.3. Augmentation", "**Claim.** With the class held back, target accuracy is below 0.05, and TSTR lower than with *none* by more than 0.3. Augmentation"),
  ("*Look at* TSTR from top to bottom. **Held back**, the class stays with the victim, and the model does not know it.", "*Look at* TSTR from top to bottom. **Held back**, the class stays with the victim, and the model does not know it. (A TSTR of «h('class held back','t',3)» comes from the other digits.)"))
code("alone-check", """
if full_size:
    assert runs_of("class held back", "target_accuracy").max() < 0.05
    assert apart("class held back", "none").max() < -0.3
    for name in ("augmentation", "dropout"):
        assert apart(name, "none").abs().max() < 0.05
    print("claim holds: augmentation and dropout protect nothing, and holding the class back does")
else:
    print("claim not evaluated: too few rounds, seeds or digits")
""")
edit("quiz", ("<details><summary>TSTR is too generous</summary>\n\nWrong. It puts noise and other digits near 0.\n</details>", "<details><summary>TSTR gives high marks to anything</summary>\n\nWrong. It puts noise near 0.\n</details>"),
  ("**4.** A hundredth of each update leaves a TSTR near 0. Can you rely on it?", "**4.** A hundredth of each update leaves a TSTR near 0 in most runs. Can you rely on it?"),
  ("<details><summary>Yes, in every run</summary>\n\nWrong. These attackers kept to the rule. One that sends its whole update gets the class. And even without that, the probe finds much.", "<details><summary>Yes, if the median of more runs stays near 0</summary>\n\nWrong. One run already is high. And these attackers kept to the rule: one that sends its whole update gets the class."))
