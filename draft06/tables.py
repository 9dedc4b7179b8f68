"""tables.py RUNS: fills page.md, and prints the README's table."""
import sys, re; sys.argv=[sys.argv[0],sys.argv[1],"out/x.ipynb"]
from pathlib import Path; HERE = Path(__file__).parent
exec((HERE / "build.py").read_text())
from fl_gan_lib.studies.defences import attackers_of
import pandas as pd
ONE=["none","DP-SGD, epsilon 8","DP-SGD, epsilon 1","class in every 10th round","class held back","augmentation","dropout","keys","1 % of each update","1 %, with error feedback","10 % of each update","2 bits a number","20 rounds","20 rounds, class held back"]
NINE=["9 honest","9 honest, class held back","9 honest, median","9 honest, trimmed mean","9 honest, Krum","9 honest, noise at the server"]
NAMES={"none":"*no defence*","9 honest":"*no defence*","9 honest, class held back":"class held back","9 honest, median":"median","9 honest, trimmed mean":"trimmed mean","9 honest, Krum":"Krum","9 honest, noise at the server":"noise on the mean, z = 1","DP-SGD, epsilon 8":"DP-SGD, ε = 8","DP-SGD, epsilon 1":"DP-SGD, ε = 1"}
def rows(name,digit): return every[(every.defence==name)&(every.digit==digit)]
def harmful(name,digit):
    return max([n for n in attackers_of(name) if len(rows(n,digit))], key=lambda n: rows(n,digit).tstr.median())
def cell(r,col): return f"{r[col].median():.2f} ({(r[col].min() if 'acc' in col else r[col].max()):.2f})"
def table(names):
    out=["| defence | target accuracy: 3 | 9 | TSTR: 3 | 9 | probe: 3 | 9 | TSTR, most harmful attacker: 3 | 9 |","| --- "*9+"|"]
    for n in names:
        c=[cell(rows(n,d),col) for col in ("target_accuracy","tstr","probe") for d in (3,9)]
        for d in (3,9):
            w=harmful(n,d); c.append(cell(rows(w,d),"tstr")+(f": {w.removeprefix(n+', ')}" if w!=n else ""))
        star=""
        out.append(f"| {NAMES.get(n,n)}{star} | "+" | ".join(c)+" |")
    return "\n".join(out)
sd=pd.read_csv(f"{runs}/seeds.csv").query("kind=='real images' and digit in [3,9]").groupby("digit")[["tstr","probe"]].median()
count=last.groupby(["defence","digit"]).size()
def few(n): return min(count.get((n,d),0) for d in (3,9))<3
def loss(n,base,*d): return ", ".join(f"{of(base,'ta',x).median()-of(n,'ta',x).median():.2f}" for x in (d or (3,9))).replace(", "," and ")
rest = any(few(n) for n in ONE+NINE)
detection=f"Limits came from runs with other seeds. Attackers that inject from the start are found when it first judges, in round 3, or they blend in so closely that they draw nothing. One that waits is found when it begins. The price: where nobody injects, the server accuses somebody at some time in {env['runs_quiet']} of {env['of_quiet']} runs, and an honest client in {env['runs_attacked']} of {env['num_runs_attacked']} attacked ones. So exclude nobody on a first alarm."
forty=f"""## One attacker among forty-one, 60 rounds

The attack is slow here without any defence (digit 3, one run: TSTR {m('40 honest','t',3)}, probe {m('40 honest','p',3)}). With noise of z = 1 at the server, the model still reaches a target accuracy of {m('40 honest, noise at the server','ta',3)}, where it has {m('40 honest','ta',3)} without, and nothing is left of the class (TSTR {m('40 honest, noise at the server','t',3)}, probe {m('40 honest, noise at the server','p',3)}). But such noise stands for a budget above 40, which promises next to nothing. Noise and clip were not taken apart here."""
A,B='9 honest, takes {} as many steps','9 honest, median, takes {} as many steps'
median_steps=f"They do not slow every attacker: with four times as many generator steps it gets {m(A.format('four times'),'t',3)} on the 3 without a defence, and {m(B.format('four times'),'t',3)} against the median (on the 9, {m(A.format('four times'),'t',9)} and {m(B.format('four times'),'t',9)})"+(f"; with twice as many, {m(A.format('twice'),'t',3)} and {m(B.format('twice'),'t',3)}." if A.format('twice') in set(last.defence) and B.format('twice') in set(last.defence) else ".")
def third():
    out=["| digit 6 | target accuracy | TSTR | probe | TSTR, most harmful attacker |","| --- "*5+"|"]
    for n in ("none","DP-SGD, epsilon 8","class held back","augmentation","1 % of each update","20 rounds","9 honest","9 honest, median"):
        if not len(rows(n,6)): continue
        w=harmful(n,6); one=lambda r,c: f"{r[c].median():.2f}"
        c=[one(rows(n,6),x) for x in ("target_accuracy","tstr","probe")]+[one(rows(w,6),"tstr")+(f": {w.removeprefix(n+', ')}" if w!=n else "")]
        out.append(f"| {NAMES6.get(n,n)} | "+" | ".join(c)+" |")
    return "\n".join(out)
NAMES6={"none":"*no defence*","DP-SGD, epsilon 8":"DP-SGD, ε = 8","9 honest":"*one attacker among ten*","9 honest, median":"one attacker among ten, median"}
k=every[every.digit==6].groupby("defence").size()
third_words={1:"One run each:"}.get(k.max() if len(k) else 0,"Medians of two or three runs:")
six=lambda n:rows(n,6).tstr.median()
assert all(six(n)>=max(rows(n,d).tstr.median() for d in (3,9)) for n in ("none","DP-SGD, epsilon 8","class held back","augmentation","1 % of each update","20 rounds","9 honest","9 honest, median"))
third_section=f"## A third digit\n\nThe digit 6 is unlike the 3 and the 9. {third_words}\n\n{third()}\n\nBy TSTR, each row leaves more of the 6 than of the 3 and the 9 in the median, *class held back* too. So a defence that looked good on one digit can fail on another.\n\n" if len(k) else ""
L,LM="9 honest, 400 rounds","9 honest, median, 400 rounds"
long_median=f"Is the attack stopped or delayed? Without a defence, one run of 400 rounds for each digit reaches a TSTR of {m(L,'t',3)} and {m(L,'t',9)}."+(f" With the median it reaches {m(LM,'t',3)} and {m(LM,'t',9)} (probe {m(LM,'p',3)} and {m(LM,'p',9)}). So the plain attack is weakened and not only delayed, and much is still told." if len(of(LM,'t'))>1 else "")
env|={"long_median":long_median,"third_section":third_section,"third":third,"third_words":third_words,"median_steps":median_steps,"table":table,"ONE":ONE,"NINE":NINE,"realT":f"{sd.tstr[3]:.2f} and {sd.tstr[9]:.2f}","realP":f"{sd.probe[3]:.2f} and {sd.probe[9]:.2f}","seeds":"two or three runs, one for each seed," if rest else "three runs, one for each seed (two for *no defence* among ten under its most harmful attacker on the 9),","lossE8":loss("DP-SGD, epsilon 8","none"),"clip02":loss("9 honest, clipping at 0.2","9 honest",3),"forty":forty,"detection":detection}
open("out/defences.md","w").write(re.sub("«(.*?)»",lambda k:str(eval(k[1],env)),(HERE / "page.md").read_text()))
README=[("none","*no defence*","–"),
("class held back","class held back","Leave out what nobody may see."),
("DP-SGD, epsilon 8","DP-SGD, ε = 8","Protects single images, not the class."),
("augmentation","augmentation","No defence."),
("1 % of each update","1 % of each update","Unreliable, and easily broken."),
("20 rounds","20 rounds, not 100","Stop early, but do not count on it."),
("9 honest","*one attacker among ten*","–"),
("9 honest, median","the same, median","Weakens the plain attack where most hold the class.")]
def two(f): return ", ".join(f"{f(d):.2f}" for d in (3,9))
R=["| defence | accuracy | TSTR | TSTR, most harmful attacker | advice |","| --- | --- | --- | --- | --- |"]
for n,label,so in README:
    R.append(f"| {label} | {two(lambda d: rows(n,d).target_accuracy.median())} | {two(lambda d: rows(n,d).tstr.median())} | {two(lambda d: rows(harmful(n,d),d).tstr.median())} | {so} |")

open("out/readme_table.md","w").write("\n".join(R)); print("\n".join(R))
