"""tables.py RUNS: fills page.md, and prints the README's table."""
import sys, re; sys.argv=[sys.argv[0],sys.argv[1],"out/x.ipynb"]
from pathlib import Path; HERE = Path(__file__).parent
exec((HERE / "build.py").read_text())
from fl_gan_lib.studies.defences import ADAPTED
import pandas as pd
ONE=["none","DP-SGD, epsilon 8","DP-SGD, epsilon 1","class in every 10th round","class held back","augmentation","dropout","keys","1 % of each update","1 %, with error feedback","10 % of each update","2 bits a number","20 rounds"]
NINE=["9 honest","9 honest, median","9 honest, trimmed mean","9 honest, Krum","9 honest, noise at the server"]
NAMES={"none":"*no defence*","9 honest":"*no defence*","9 honest, median":"median","9 honest, trimmed mean":"trimmed mean","9 honest, Krum":"Krum","9 honest, noise at the server":"noise on the mean, z = 1","DP-SGD, epsilon 8":"DP-SGD, ε = 8","DP-SGD, epsilon 1":"DP-SGD, ε = 1"}
def rows(name,digit): return last[(last.defence==name)&(last.digit==digit)]
def harmful(name,digit):
    return max([name,*(f"{name}, {d}" for d in ADAPTED.get(name,{}))], key=lambda n: rows(n,digit).tstr.median())
def cell(r,col): return f"{r[col].median():.2f} ({(r[col].min() if 'acc' in col else r[col].max()):.2f})"
def table(names):
    out=["| defence | target accuracy: 3 | 9 | TSTR: 3 | 9 | probe: 3 | 9 | TSTR, most harmful attacker: 3 | 9 |","| --- "*9+"|"]
    for n in names:
        c=[cell(rows(n,d),col) for col in ("target_accuracy","tstr","probe") for d in (3,9)]
        for d in (3,9):
            w=harmful(n,d); c.append(cell(rows(w,d),"tstr")+(f": {w.removeprefix(n+', ')}" if w!=n else ""))
        out.append(f"| {NAMES.get(n,n)} | "+" | ".join(c)+" |")
    return "\n".join(out)
sd=pd.read_csv(f"{runs}/seeds.csv").query("kind=='real images' and digit in [3,9]").groupby("digit")[["tstr","probe"]].median()
env|={"table":table,"ONE":ONE,"NINE":NINE,"realT":f"{sd.tstr[3]:.2f} and {sd.tstr[9]:.2f}","realP":f"{sd.probe[3]:.2f} and {sd.probe[9]:.2f}","seeds":"N seeds","lossE8":"XX","clip02":"XX","forty":"FORTY XX","detection":"XX"}
open("out/defences.md","w").write(re.sub("«(.*?)»",lambda k:str(eval(k[1],env)),(HERE / "page.md").read_text()))
README=[("none","*no defence*","–"),
("class held back","class held back","Leave out what nobody may see."),
("class in every 10th round","class in every 10th round","Not enough."),
("DP-SGD, epsilon 8","DP-SGD, ε = 8","It protects single images, and does not hide the class."),
("augmentation","augmentation","No defence."),
("1 % of each update","1 % of each update","Works only if the attacker plays along."),
("20 rounds","20 rounds, not 100","Stop early, but do not count on it."),
("9 honest","*one attacker among ten*","–"),
("9 honest, median","the same, median","Free, and slows the attack."),
("9 honest, Krum","the same, Krum","Costs accuracy, also on other digits.")]
def two(f): return ", ".join(f"{f(d):.2f}" for d in (3,9))
R=["| defence | accuracy | TSTR | TSTR, most harmful attacker | advice |","| --- | --- | --- | --- | --- |"]
for n,label,so in README:
    R.append(f"| {label} | {two(lambda d: rows(n,d).target_accuracy.median())} | {two(lambda d: rows(n,d).tstr.median())} | {two(lambda d: rows(harmful(n,d),d).tstr.median())} | {so} |")

open("out/readme_table.md","w").write("\n".join(R)); print("\n".join(R))
