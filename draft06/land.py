"""land.py RUNS: everything that depends on the runs, into the project folder (run there)."""
import shutil,subprocess,sys,re
from pathlib import Path
import pandas as pd
HERE=Path(__file__).parent; runs=Path(sys.argv[1])
target=Path("notebooks/runs")
for name in ("defences.csv","detection.csv","gradients.csv","fresh_defences.csv","defences.npz","gradients.npz"):
    if (runs/name).exists(): shutil.copy(runs/name,target/name)
for p in target.glob("*.unfinished.csv"):
    if "--keep" not in sys.argv: p.unlink()
py=sys.executable
subprocess.run([py,str(HERE/"tables.py"),str(runs)],check=True,stdout=subprocess.DEVNULL)
subprocess.run([py,str(HERE/"build.py"),str(runs),"notebooks/06_defences.ipynb"],check=True)
shutil.copy("out/defences.md","notebooks/pages/defences.md")
t=pd.read_csv(runs/"defences.csv").groupby(["defence","digit","seed"]).tail(1)
spread=t.groupby(["defence","digit"]).tstr.agg(lambda x:x.max()-x.min()).max()
m=lambda n,d: f"{t[(t.defence==n)&(t.digit==d)].tstr.median():.2f}"
p=Path("README.md"); s=p.read_text()
for a,b in {"TABLE":Path("out/readme_table.md").read_text(),"SEEDS":"two or three runs","SPREAD":f"{spread:.1f}"}.items(): s=s.replace(a,b)
p.write_text(s)
g=pd.read_csv(runs/"gradients.csv").groupby("update"); f=lambda x: f"{x.median():.2f} ({x.min():.2f} to {x.max():.2f})" if len(x.dropna()) else "–"
from fl_gan_lib.studies.gradients import UPDATES
rows=["| update | error | error of another image | closer |","| --- | --- | --- | --- |"]+[f"| {n} | "+" | ".join(f(g.get_group(n)[c]) for c in ("error","other_error","closer"))+" |" for n in UPDATES]
p=Path("notebooks/pages/related_work.md"); s=p.read_text()
for a,b in {"GRADIENTS":"\n".join(rows),"RW3":m("9 honest",3),"RW9":m("9 honest",9)}.items(): s=s.replace(a,b)
p.write_text(s)
