from sklearn.metrics import roc_auc_score
from fl_gan_lib.studies.detection import SIGNALS, remembered, round_found
def _detection():
    d=det[det["round"]<=0.9*det["round"].max()]
    by={k:g for k,g in d.groupby(["attacker","digit","seed"])}
    sc={k:{s:remembered(g,s) for s in SIGNALS} for k,g in by.items()}
    calm=[k for k in sc if k[0]=="nobody injects"]
    ends=pd.concat([sc[k]["fake_bias"].iloc[-1] for k in calm])
    area=roc_auc_score(ends.index==9,ends)
    seeds={k[2] for k in sc}
    lim={x:{s:max(sc[k][s].loc[3:].max(axis=None) for k in calm if k[2]!=x) for s in SIGNALS} for x in seeds}
    al={k:pd.concat([sc[k][s].loc[3:]/lim[k[2]][s] for s in SIGNALS]).groupby(level="round").max() for k in sc}
    global runs_quiet,runs_attacked,num_runs_attacked,num_calm
    over={k:bool((al[k].drop(columns=9)>1).any().any()) for k in al}; runs_quiet=sum(bool((al[k]>1).any().any()) for k in calm); num_calm={1:"one",2:"two",4:"four"}.get(len(calm)-len(calm)//len(seeds),len(calm))
    runs_attacked=sum(over[k] for k in al if k not in calm); num_runs_attacked=len(al)-len(calm)
    quiet=sum(int((al[k]>1).any().sum()) for k in calm); honest=[int((al[k].drop(columns=9)>1).any().sum()) for k in al if k not in calm]
    run=det.dropna(subset="tstr_run").groupby(["attacker","digit","seed"])[["tstr_run","probe_run"]].first()
    when={n:[round_found(al[k],9,1) for k in al if k[0]==n] for n in {k[0] for k in al}}
    return area,quiet,len(calm),sum(honest),9*len(honest),run,when
area,quiet,of_quiet,accused,of_accused,drawn,when=_detection()
calm_bias=f"{area:.2f}"
w=[when[n] for n in ("blends in, with other labels","blends in closely")]
det_blend=f"The more closely it blends in, the less: within 2 standard deviations the probe ends at {f(drawn.loc['blends in more','probe_run'].median())}. *Closely*, or *with other labels*, it is accused late, or as an honest client might be, and draws nothing."
det_false=f"Where nobody injects, somebody is accused at some time in {runs_quiet} of {of_quiet} runs, and an honest client in {runs_attacked} of {num_runs_attacked} attacked ones."
print({n:v for n,v in when.items()}); print(drawn.groupby("attacker").agg(["median","max"]).round(2).to_string())
hours="some ten hours"
clip_cost = f"{of('9 honest','ta',3).median()-of('9 honest, clipping at 0.2','ta',3).median():.2f}"
robust_minority = f"""Where two honest clients hold the class, the median takes it from the model (target accuracy {m('9 honest, two hold the class, median','ta')}, mean {m('9 honest, two hold the class','ta')}), and yet more leaks than where six hold it (TSTR {m('9 honest, two hold the class, median','t')}, mean {m('9 honest, two hold the class','t')})."""
n=last.groupby(["defence","digit"]).size()
few_seeds = "Three seeds show a spread, and no confidence interval." if n[n.index.get_level_values(0).isin(ALL3)].min()>=3 else "Two or three seeds show a spread, and no confidence interval."
dp_adapted = f"""Half as many steps bring {m('DP-SGD, epsilon 8, takes half as many steps','t',3)} and {m('DP-SGD, epsilon 8, takes half as many steps','t',9)}, where the attacker that knows nothing has {m('DP-SGD, epsilon 8','t',3)} and {m('DP-SGD, epsilon 8','t',9)}. The other three do worse."""
dp_controls = f"""*Look at* the target accuracy where nobody injects: {m('DP-SGD, epsilon 8, nobody injects','ta')} and {m('DP-SGD, epsilon 1, nobody injects','ta')}. So it is the noise that costs the model the class, and not the attacker. With the class held back as well, the probe is {m('DP-SGD, epsilon 8, class held back','p')} and {m('DP-SGD, epsilon 1, class held back','p')}. So what the attacker draws at $\\varepsilon = 1$ (probe {m('DP-SGD, epsilon 1','p',3)}) comes from the victim's images, through a model that never learns the class well enough to classify it."""

def floor_p(name): return f"{int(of(name,'p').min()*10)/10:.1f}"
H,T="9 honest, class held back","20 rounds, class held back"
crowd_floor = f"""With the median the probe is {m('9 honest, median','p',3)} and {m('9 honest, median','p',9)}; with the class held back in such a crowd it is {m(H,'p',3)} and {m(H,'p',9)}."""
twenty_floor = f"""(The probe is {m('20 rounds','p',3)} and {m('20 rounds','p',9)}; with the class held back it is {m(T,'p',3)} and {m(T,'p',9)}.)"""
A2,B2="9 honest, takes twice as many steps","9 honest, median, takes twice as many steps"
robust_steps = (f"""On the 3, two and four times as many generator steps give {m(A2,'t',3)} and {m('9 honest, takes four times as many steps','t',3)} without a defence, and {m(B2,'t',3)} and {m('9 honest, median, takes four times as many steps','t',3)} against the median.""" if {A2,B2}<=set(last["defence"]) else
 f"""On the 3, four times as many generator steps give {m('9 honest, takes four times as many steps','t',3)} without a defence, and {m('9 honest, median, takes four times as many steps','t',3)} against the median. On the 9 it is {m('9 honest, takes four times as many steps','t',9)} and {m('9 honest, median, takes four times as many steps','t',9)}.""")
L,LM="9 honest, 400 rounds","9 honest, median, 400 rounds"
def _long():
    if not len(of(L,'t')): return ""
    text=f"In one run of 400 rounds for each digit, TSTR reaches {m(L,'t',3)} and {m(L,'t',9)}"
    return text+(f", and against the median {m(LM,'t',3)} and {m(LM,'t',9)}." if len(of(LM,'t'))>1 else ".")
long_crowd=_long()
