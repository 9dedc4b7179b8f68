"""build.py RUNS OUT: the notebook, its texts filled in from the runs."""
import re, sys, math
import numpy as np, pandas as pd, nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pathlib import Path
HERE = Path(__file__).parent; sys.path[:0] = [str(HERE), "."]  # run in the project's folder
from cells import CELLS
import cells2, cells3, cells4, cells5, cells6  # noqa
runs, out = sys.argv[1], sys.argv[2]
t = pd.read_csv(f"{runs}/defences.csv"); every = t.groupby(["defence","digit","seed"]).tail(1); last = every[every.digit.isin((3,9))]
det = pd.read_csv(f"{runs}/detection.csv")
COL = {"t":"tstr","p":"probe","ta":"target_accuracy","a":"accuracy","r":"recognition"}
missing=set()
def of(name, col, digit=None):
    x = last[(last["defence"]==name) & ((last["digit"]==digit) if digit else True)][COL[col]]
    if name not in set(last["defence"]) : missing.add(name)
    return x
def f(v): return "XX" if v!=v else f"{v:.2f}"
def m(*a): return f(of(*a).median())
def lo(*a): return f(of(*a).min())
def h(*a): return f(of(*a).max())
from fl_gan_lib.studies.defences import DEFENCES
env = {"ALL3":list(DEFENCES),"det":det,"last":last,"pd":pd,"of":of,"f":f,"m":m,"lo":lo,"h":h,"num_runs":f"{len(last)+det.groupby(['attacker','digit','seed']).ngroups}"}
exec((HERE / "extra.py").read_text(), env)
def fill(text): return re.sub("«(.*?)»", lambda k: str(eval(k[1], env)), text)
cells=[]
for kind,id,source,extra in CELLS:
    if kind=="markdown": c=new_markdown_cell(fill(source), id=id)
    else:
        c=new_code_cell(source, id=id); alt,tags=extra
        if tags: c.metadata["tags"]=list(tags)
        if alt: c.metadata["mystnb"]={"image":{"alt":alt}}
        n=len(source.splitlines()); w=max(map(len,source.splitlines()))
        if n>18 or w>120: print("LONG",id,n,w)
    cells.append(c)
old=nbformat.read("notebooks/05_anatomy_of_the_attack.ipynb",4)
nb=new_notebook(cells=cells, metadata={k:v for k,v in old.metadata.items()})
from fl_gan_lib.lessons.writing import with_exercises
from fl_gan_lib.lessons import protection
nb.cells=with_exercises(nb.cells, protection.EXERCISES)
nbformat.write(nb,out)
print("missing",missing)
prose=0
for c in nb.cells:
    if c.cell_type!="markdown" or c.id.startswith("exercise-") or c.id in("quiz",): continue
    s=re.sub(r"\$\$.*?\$\$","",c.source,flags=re.S); s=re.sub(r"\$[^$]*\$","x",s)
    s="\n".join(l for l in s.splitlines() if not l.startswith("|"))
    s=re.sub(r"<details>.*?</details>","",s,flags=re.S)
    n=len(s.split()); prose+=n if c.id!="references" else 0
    if "-v" in sys.argv: print(c.id,n)
print("prose",prose)
