"""land2.py RUNS: everything that depends on the runs, into the project folder (run there)."""
import re,shutil,subprocess,sys
from pathlib import Path
import pandas as pd
HERE=Path(__file__).parent; runs=Path(sys.argv[1]); target=Path("notebooks/runs"); py=sys.executable
for name in ("defences.csv","detection.csv","gradients.csv","fresh_defences.csv","defences.npz","gradients.npz"):
    if (runs/name).exists(): shutil.copy(runs/name,target/name)
for p in target.glob("*.unfinished.csv"): p.unlink()
Path("out").mkdir(exist_ok=True)
subprocess.run([py,str(HERE/"tables.py"),str(runs)],check=True,stdout=subprocess.DEVNULL)
subprocess.run([py,str(HERE/"build.py"),str(runs),"notebooks/06_defences.ipynb"],check=True)
shutil.copy("out/defences.md","notebooks/pages/defences.md")
t=pd.read_csv(runs/"defences.csv").groupby(["defence","digit","seed"]).tail(1)
spread=t.groupby(["defence","digit"]).tstr.agg(lambda x:x.max()-x.min()).max()
from fl_gan_lib.studies.defences import attackers_of
rows=("none","class held back","DP-SGD, epsilon 8","augmentation","1 % of each update","20 rounds","9 honest","9 honest, median")
def shown(n,d):
    of={k:g for k,g in t[t.digit==d].groupby("defence")}
    yield len(of[n]); w=max([a for a in attackers_of(n) if a in of],key=lambda a:of[a].tstr.median()); yield len(of[w])
counts={c for n in rows for d in (3,9) for c in shown(n,d)}; print("counts",counts,"spread",spread)
words="three runs" if counts=={3} else "two or three runs"
p=Path("README.md"); s=p.read_text()
s=re.sub(r"\((two or )?three runs; they differ by up to [\d.]+ in TSTR\)",f"({words}; they differ by up to {spread:.1f} in TSTR)",s)
head="| defence | accuracy | TSTR | TSTR, most harmful attacker | advice |\n"
a=s.index(head); b=s.index("\n\n",a); s=s[:a]+Path("out/readme_table.md").read_text().rstrip()+s[b:]
p.write_text(s)
