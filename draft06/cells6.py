"""Shorter again. The gradient inversion is on the page Related work."""
from cells5 import CELLS, md, code, at, edit
import re
for id in ("inversion-strips", "inversion-table"): CELLS.pop(at(id))
i = at("inversion-look"); s = CELLS[i][2]
CELLS[i] = ("markdown", "limits", s[s.index("## What this does not show"):], None)
s = CELLS[at("picture-look")][2]
md("picture-look", s[:s.index("## 9.")].rstrip())
edit("picture-look", ("In the crowd the server's rules lie below *9 honest*, the plain mean, at little cost, after 60 rounds. Clip, noise and forty honest met few attackers that know them, and forty honest is one run.",
  "In the crowd the server's rules lie below *9 honest*, the plain mean, at little cost, after 60 rounds. But few attackers that know them were tried, and *40 honest* is one run."))
edit("title", ("- which defences hide what a class looks like, what they cost, and what an attacker does that knows them;", "- which defences hide what a class looks like, what they cost, and what a cleverer attacker does;"))
edit("reading", ("Of each defence you will ask *who* can use it, what it *costs*, and what still *leaks*.\n\n", ""),
 ("Tables give the median, and in brackets the lowest and the highest. *Runs* says how many there are, one for each seed. Few runs and wide ranges mean that you must not rank settings by their medians. Rows of fakes are of digit 3, seed 0, and their labels have the medians. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:",
  "Tables give the median, and in brackets the lowest and the highest. *Runs* counts them, one for each seed. They are few: where ranges overlap, do not rank settings. Rows of fakes are of digit 3, seed 0, with the medians as labels. There is one honest participant and there are 100 rounds unless the text says otherwise. The anchors:"),
 ("It is measured on 100 images, after the attacker's quiet rounds. (While the attacker injects, this accuracy is low.) One image is 0.01, so smaller differences than 0.03 mean little.",
  "It is measured after the attacker's quiet rounds, on 100 images, so differences below 0.03 mean little. (While the attacker injects, it is low.)"))
edit("anchors-look", ("With the *class held back*, nobody shows the model the target. Whatever these fakes reveal comes from the other nine digits, and that can be much: look at the highest value for the 3. Only what goes beyond it leaks.",
  "With the *class held back*, nobody shows the model the target. What these fakes reveal comes from the other nine digits. That can be much: look at the highest value for the 3. Only what goes beyond it leaks."))
edit("dpsgd-look", (" To the eye, the fakes of the last row are hardly 3s. A classifier that learns from them still finds real 3s.", " To the eye, the fakes of the last row are hardly 3s, and yet a classifier that learns from them finds real 3s."))
edit("user-look", ("But it is one run, and among forty the attack is slow without noise, too (TSTR «m('40 honest','t',3)», as in notebook 05).", "But among forty the attack is slow without noise, too (TSTR «m('40 honest','t',3)»)."))
edit("user-controls-look", (" An attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)», and one that injects nine times as many fakes nothing.",
   " An attacker that takes four times as many generator steps gets «m('9 honest, clipping at 0.2, takes four times as many steps','t',3)»."))
edit("sharing-look", (" A victim that leaves a longer federation after round 20 gives away more («m('leaves after 20 of 100 rounds','t',3)» and «m('leaves after 20 of 100 rounds','t',9)»), as its attacker has not gone quiet.",
   " A victim that leaves a longer federation after round 20 gives away more («m('leaves after 20 of 100 rounds','t',3)» and «m('leaves after 20 of 100 rounds','t',9)»)."),
  ("It leaves a probe of «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)», and costs about a tenth of target accuracy. Error feedback restores the accuracy, and most of the attack with it.",
   "The probe is still «m('1 % of each update','p',3)» and «m('1 % of each update','p',9)», and about a tenth of target accuracy is lost. Error feedback restores the accuracy, and most of the attack."))
edit("robust-look", ("Median and trimmed mean cost the model nothing here, and after 60 rounds they leave much less: on the 3, «m('9 honest, median','t',3)» and «m('9 honest, trimmed mean','t',3)», where the mean gives «m('9 honest','t',3)»; on the 9, nothing that could replace an image.",
   "Median and trimmed mean cost the model nothing here, and leave much less after 60 rounds: on the 3, «m('9 honest, median','t',3)» and «m('9 honest, trimmed mean','t',3)» (mean: «m('9 honest','t',3)»); on the 9, nothing that could replace an image."),
  ("**An attacker that knows** can send a larger change, or take more generator steps (the first rows have it without a defence). Against Krum it can send a *small* change, or blend in (section 6). The last two rows are a control: only two of nine honest clients hold the class.",
   "**An attacker that knows** can send a larger change, or take more generator steps (the first rows have that without a defence). Against Krum it can send a *small* change, or blend in (section 6). In the last two rows only two of nine honest clients hold the class."))
edit("detect-areas-look", ("With **all of this at once**, its mean norm is the *smallest* of ten in every run, which this server does not take for suspicious, and cosine and fake bias still rank it first. The last pair is a warning: where **nobody injects**, the tenth client may stand out by chance (fake bias: an area of «calm_bias»). Being first is no proof.",
   "With **all of this at once**, its norm looks harmless, but cosine and fake bias still rank it first. The last pair is a warning: where **nobody injects**, the tenth client may stand out by chance (fake bias: an area of «calm_bias»)."),
  ("Here it comes from «num_calm» runs with other seeds. A client that exceeds the limit of one signal is accused. Four more kinds of attacker try to stay below the limits. They wait for 20 rounds, inject in every third round, or *blend in*: they simulate a few honest clients at home, and keep each number of their update within 4, 2 (*more*) or 1 (*closely*) standard deviations of those (Baruch et al. 2019). *With other labels* also calls half of the fakes the target and the others a 0.",
   "Here it comes from «num_calm» runs with other seeds. A client that exceeds one limit is accused. More attackers try to stay below. They wait for 20 rounds, inject in every third round, or *blend in*: they simulate a few honest clients at home, and keep each number of their update within 4, 2 (*more*) or 1 (*closely*) standard deviations of those (Baruch et al. 2019). *With other labels* also labels its fakes as in *all of this at once*."),
  ("In the picture, lines are medians over the runs, and bands the ranges. Each score is divided by its limit, so a client above 1 is accused:", "Lines are medians over the runs, bands the ranges. Scores are divided by their limits, so a client above 1 is accused:"))
edit("detect-times-look", ("*Look at* the first column (both digits together; *inf* is never). An attacker that injects from the start is found in round 3, before it has drawn anything, unless it blends in very closely. One that waits is found when it begins. (An earlier round is a false alarm.) *probe_run* and *tstr_run* say what it would have drawn if nobody had stopped it. «det_blend» The last column is the price. «det_false» So a server must look twice before it excludes anybody.",
   "*Look at* the first column (both digits together; *inf* is never). An attacker that injects from the start is found in round 3, before it has drawn anything, unless it blends in very closely. One that waits is found when it begins (or before, by a false alarm). *probe_run* and *tstr_run* say what it would have drawn if nobody had stopped it. «det_blend» The last column is the price. «det_false»"),
  ("But its task is easy. Everybody takes part in every round, honest clients are much alike, and for one signal it has images of the target. A better attacker may exist.", "But its task is easy: everybody takes part in every round, and honest clients are much alike. A better attacker may exist."))
edit("alone-look", (" Learning the key from its own fakes works on the 3 and fails on the 9. (*Known to the attacker* is a control.)", " Learning the key from its own fakes fails on the 9."),
  ("(A TSTR of «h('class held back','t',3)» in one run comes from the other digits.) ", ""),
  ("Then it draws upright digits (last row of the picture). They look better, and TSTR is lower.", "Then it draws upright digits (last row of the picture), and TSTR is lower."))
edit("limits", (" The claims describe these runs.", ""))
edit("limits", (" Sampling makes participant-level privacy much cheaper, and needs more participants.", ""))
edit("dpsgd", ("Rényi differential privacy (RDP), after which the settings are called, and a tighter numerical one (PRV).", "Rényi differential privacy (RDP) and a tighter numerical one (PRV)."))
edit("user-neighbours", (" (Two changes can lie $2S$ apart, and between those the promise is weaker.)", ""))
edit("picture", (" The grey line joins the stars.", ""))
edit("detect-areas-look", (" The mean of all rounds is less noisy than a single update. The **attacker as it is** then stands out in all six signals.", " Over all rounds, the **attacker as it is** stands out in all six signals."))
edit("secure-claim", (" (With one honest participant it even gets the victim's update: it subtracts its own.)", ""))
edit("robust-look", (" Krum leaves nothing, and its model is worse, because it drops eight honest updates as well.", " Krum leaves nothing, and its model is worse: it drops eight honest updates."))
edit("picture-look", ("at little cost, after 60 rounds. But few attackers that know them were tried, and *40 honest* is one run.", "at little cost, after 60 rounds. But the probe still finds the class with a median, few attackers that know these rules were tried, and *40 honest* is one run."))
edit("dpsgd-remember", (" (The page [Defences](pages/defences.md) discusses the budgets of the paper.)", ""))
edit("limits", ("- Crowds had 60 rounds, in which even the undefended attack is not finished. A defence that only *slows* looks better than it is.", "- In 60 rounds even the undefended attack on a crowd is not finished. «long_crowd» A defence that only *slows* looks better than it is."),
  ("- Everybody takes part in every round.\n", ""))
edit("reading", (" A TSTR of 0 does not mean privacy if the probe is high.", " A TSTR of 0 is no privacy if the probe is high."))
edit("user-look", ("With so little learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)» on the 3), and the probe falls from «m('40 honest','p',3)» to «m('40 honest, noise at the server','p',3)».", "With so little learned, nothing leaks. Forty learn («m('40 honest, noise at the server','ta',3)»), and in one run the probe falls from «m('40 honest','p',3)» to «m('40 honest, noise at the server','p',3)»."))
edit("robust-remember", (" It does not slow every attacker.", ""))
edit("detect-times-look", (" *Closely*, or *with other labels*, it is accused late or no more than honest clients are, and draws nothing at all.", " *Closely*, or *with other labels*, it is accused late, and draws nothing.")) if False else None
edit("alone-look", ("The attacker makes up a key, and pulls its fakes towards it and away from the nine keys that it knows. What is left is mostly the tenth class.", "The attacker makes up a key, and pulls its fakes towards it and away from the nine that it knows. What is left is mostly the tenth class."))
edit("sharing-look", ("A victim that leaves a longer federation after round 20 gives away more", "A victim that leaves a longer federation then gives away more"))
edit("picture", (" Further down the fakes are of less use, which is less than private: see the probe.", " Further down the fakes are of less use, which is not yet private."))
edit("dpsgd-look", ("*Look at* the columns one by one. Clipping", "*Look at* the columns. Clipping"))
edit("detect-areas-look", ("*Look at* each pair of columns. Over all rounds, the", "*Look at* each pair. Over all rounds, the"))
edit("functions", ('COLUMNS = ["tstr", "probe", "recognition", "target_accuracy", "accuracy"]', 'COLUMNS = ["tstr", "probe", "target_accuracy", "accuracy"]'),
  ('f"{runs.median():.2f} ({runs.min():.2f} to {runs.max():.2f})"', 'f"{runs.median():.2f} ({runs.min():.2f}–{runs.max():.2f})"'))
edit("reading", (" Never quote **recognition** alone: the judge must choose one of ten digits.", ""))
edit("functions", ("{runs.min():.2f}–{runs.max():.2f}", "{runs.min():.2f} to {runs.max():.2f}"))

edit("robust-remember", ("a median slows the plain attacker for 60 rounds, where most clients hold the class.", "a median weakens the plain attacker, where most clients hold the class."))
