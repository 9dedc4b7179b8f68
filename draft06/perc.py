import re,sys,nbformat
nb=nbformat.read(sys.argv[1],4)
for c in nb.cells:
    if c.cell_type!="markdown" or c.id.startswith("exercise-") or c.source.startswith(("## Quiz","## References","## Exercises")) or "### Exercise" in c.source: continue
    s=re.sub(r"\$\$.*?\$\$","",c.source,flags=re.S); s=re.sub(r"\$[^$]*\$","",s)
    s="\n".join(l for l in s.splitlines() if not l.startswith("|"))
    s=re.sub(r"<details>.*?</details>","",s,flags=re.S); s=re.sub(r"\]\([^)]*\)","]",s)
    print(c.id,len([w for w in s.split() if re.search(r"[A-Za-z]",w)]))
